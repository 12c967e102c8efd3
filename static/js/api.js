// The API page: what /api/v1/openapi.json says, to be read by people.

import { activateCopyButtons, element, make, setText } from './page.js';
import { request } from './problem.js';

const METHODS = ['get', 'post', 'put', 'patch', 'delete'];

try {
  const response = await request('/api/v1/openapi.json', { headers: { Accept: 'application/json' } });
  show(await response.json());
} catch (error) {
  setText(element('trouble'), error.message);
  element('trouble').hidden = false;
}
activateCopyButtons();

function show(document) {
  const base = document.servers[0].url;
  const introduction = paragraphs(document.info.description);
  element('introduction').replaceChildren(make('p', { text: `Version ${document.info.version}` }), ...introduction);
  setText(element('try'), `curl -H "Authorization: Bearer $TOKEN" ${location.origin}${base}/info`);

  const chapters = new Map();
  for (const [path, item] of Object.entries(document.paths)) {
    for (const method of METHODS.filter((method) => item[method])) {
      const chapter = item[method].tags?.[0] ?? 'Other';
      if (!chapters.has(chapter)) chapters.set(chapter, []);
      chapters.get(chapter).push(operation(document, method, `${base}${path}`, item[method]));
    }
  }
  for (const [name, operations] of chapters) {
    const id = anchor(name);
    element('chapters').append(make('li', {}, make('a', { href: `#${id}`, text: name })));
    element('operations').append(
      make('section', { className: 'stack', id }, make('h2', { text: name }), ...operations),
    );
  }
  for (const [name, schema] of Object.entries(document.components.schemas)) {
    element('schemas').append(shape(name, schema));
  }
  element('schemas').hidden = false;
  // What the address names was not there yet when the page was opened.
  if (location.hash) window.document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

/** One request: folded up to a line, which says what it does. */
function operation(document, method, path, described) {
  const parts = [...paragraphs(described.description)];
  const parameters = described.parameters ?? [];
  if (parameters.length > 0) {
    parts.push(table(['Parameter', 'In', 'Type', 'Meaning'], parameters.map((parameter) => [
      make('code', { text: parameter.name }),
      parameter.in,
      type(parameter.schema),
      parameter.description ?? '',
    ])));
  }
  for (const [media, content] of Object.entries(described.requestBody?.content ?? {})) {
    parts.push(make('p', {}, 'Body: ', type(content.schema), ', as ', make('code', { text: media })));
    if (content.example) parts.push(make('pre', { text: JSON.stringify(content.example, null, 2) }));
  }
  parts.push(table(['Answer', 'Shape', 'Meaning'], Object.entries(described.responses).map(([status, answer]) => {
    const schema = Object.values(answer.content ?? {})[0]?.schema;
    return [status === 'default' ? 'any other' : status, schema ? type(schema) : '–', answer.description];
  })));
  return make(
    'details',
    { className: 'card stack', id: described.operationId },
    make(
      'summary',
      { className: 'operation' },
      make('strong', { className: `method ${method}`, text: method.toUpperCase() }),
      make('code', { text: path }),
      make('span', { className: 'muted', text: described.summary ?? '' }),
    ),
    ...parts,
  );
}

/** A named schema: its members, or what it may be. */
function shape(name, schema) {
  const members = Object.entries(schema.properties ?? {});
  const variants = [...(schema.oneOf ?? []), ...(schema.allOf ?? [])];
  const parts = [...paragraphs(schema.description)];
  if (schema.enum) parts.push(make('p', {}, 'One of ', make('code', { text: schema.enum.join(', ') })));
  if (members.length > 0) parts.push(memberTable(schema, members));
  for (const variant of variants) {
    if (variant.properties) {
      parts.push(...paragraphs(variant.description), memberTable(variant, Object.entries(variant.properties)));
    } else {
      parts.push(make('p', {}, type(variant), variant.description ? ` – ${variant.description}` : ''));
    }
  }
  return make('article', { className: 'card stack', id: `shape-${name}` }, make('h3', { text: name }), ...parts);
}

function memberTable(schema, members) {
  return table(['Member', 'Type', 'Meaning'], members.map(([name, member]) => [
    make('code', { text: schema.required?.includes(name) ? name : `${name}?` }),
    type(member),
    member.description ?? '',
  ]));
}

/** A type in a few words; shapes that have a name lead there. */
function type(schema) {
  if (!schema) return 'any';
  if (schema.$ref) {
    const name = schema.$ref.split('/').pop();
    return make('a', { href: `#shape-${name}`, text: name });
  }
  if (schema.oneOf) {
    const words = make('span');
    schema.oneOf.forEach((variant, index) => words.append(index > 0 ? ' or ' : '', type(variant)));
    return words;
  }
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(', ');
  const kinds = [schema.type].flat();
  if (kinds.includes('array')) return make('span', {}, 'list of ', type(schema.items));
  return (kinds.join(' or ') || 'any') + (schema.format ? ` (${schema.format})` : '');
}

function table(titles, rows) {
  const head = make('thead', {}, make('tr', {}, ...titles.map((title) => make('th', { scope: 'col', text: title }))));
  const body = rows.map((cells) => make('tr', {}, ...cells.map((cell) => make('td', {}, cell))));
  return make('div', { className: 'sideways' }, make('table', {}, head, make('tbody', {}, ...body)));
}

function paragraphs(text) {
  return (text ?? '').split(/\n\n+/).filter(Boolean).map((part) => make('p', {}, ...codes(part)));
}

/** What stands between backticks is code. */
function codes(text) {
  return text.split('`').map((part, index) => (index % 2 === 1 ? make('code', { text: part }) : part));
}

function anchor(name) {
  return name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-');
}
