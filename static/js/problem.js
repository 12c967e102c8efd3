// What went wrong with a request, in words for people: problem documents (RFC 9457) and failed connections.

/** A request that was not answered as hoped. `status` is 0 when there was no answer at all. */
export class Problem extends Error {
  constructor(status, title, detail, retryAfter) {
    super(sentence(detail || title));
    this.name = 'Problem';
    this.status = status;
    this.title = title;
    this.detail = detail;
    /** Seconds, or null. */
    this.retryAfter = retryAfter;
  }

  /** Reads the problem document of a response that is not ok; any other body is passed over. */
  static async from(response) {
    let document = {};
    if ((response.headers.get('content-type') ?? '').includes('json')) {
      document = await response.json().catch(() => ({}));
    }
    const retryAfter = Number.parseInt(response.headers.get('retry-after') ?? '', 10);
    return new Problem(
      response.status,
      document.title || `The server answered ${response.status}.`,
      document.detail || '',
      Number.isFinite(retryAfter) ? retryAfter : null,
    );
  }

  /** The stream is not there now, and may be soon: unknown (404), or known and not live (409). */
  get isNotLive() {
    return this.status === 404 || this.status === 409;
  }
}

/** `fetch` that throws a {@link Problem} for everything but a success. */
export async function request(url, options) {
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Problem(0, 'The server cannot be reached.', '', null);
  }
  if (!response.ok) throw await Problem.from(response);
  return response;
}

/** Details are written to stand anywhere; on a page they stand alone. */
function sentence(text) {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(begun) ? begun : `${begun}.`;
}
