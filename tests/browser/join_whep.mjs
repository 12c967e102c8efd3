// A WHEP viewer in Chromium that joins in the middle of a group of pictures, beside one that has been there for long.
//   node tests/browser/join_whep.mjs '{"endpoint":"http://127.0.0.1:8080/show/whep","group":120,"into":60}'
// The pictures carry their numbers (see pages/mark.js), keyframes are the multiples of `group`.
// Options: endpoint; group; into: how many pictures behind a keyframe, as the first viewer sees it, the other comes;
// settle: seconds that the first one is there before (3); seconds to look at both from the other's first picture on (8).
// Prints `result`: `at`, the number that was seen when the other one came; `connectedMs` since then; `witness` and
// `joined`, the pictures of both as [milliseconds since then, number]; `stats`, what getStats counted for the joined one.

import { emit, options, withPage } from "./chrome.mjs";

await withPage(async (page) => {
  const result = await page.evaluate(async (options) => {
    const { endpoint, group, into, settle = 3, seconds = 8 } = options;
    const { connected, negotiate, stats, viewer } = await import("/session.js");
    const { watchNumbers } = await import("/mark.js");
    const pause = (ms) => new Promise((done) => setTimeout(done, ms));
    const until = async (what, found) => {
      const started = performance.now();
      while (!found()) {
        if (performance.now() - started > 30000) throw new Error(`not within 30 s: ${what}`);
        await pause(5);
      }
    };
    const watch = async (element) => {
      const { peer, stream } = viewer();
      element.srcObject = stream;
      const pictures = watchNumbers(element);
      await negotiate(peer, endpoint);
      await connected(peer);
      element.play().catch(() => {});
      return { peer, pictures };
    };

    const first = document.getElementById("video");
    const second = first.cloneNode();
    second.id = "second";
    for (const element of [first, second]) [element.width, element.height] = [320, 180];
    first.after(second);
    const witness = (await watch(first)).pictures;
    await until("the first viewer's pictures", () => witness.length > 0);
    await pause(settle * 1000);
    const seen = () => witness.at(-1)[1];
    await until("the middle of a group", () => seen() % group >= into && seen() % group < into + 4);
    const [at, started] = [seen(), performance.now()];
    const { peer, pictures } = await watch(second);
    const connectedMs = performance.now() - started;
    await until("the other viewer's pictures", () => pictures.length > 0);
    await pause(seconds * 1000);
    const since = (list) => list.map(([time, number]) => [time - started, number]);
    const [counted] = (await stats(peer, "inbound-rtp")).filter((entry) => entry.kind === "video");
    const { framesDecoded, framesDropped, keyFramesDecoded, freezeCount, totalFreezesDuration, packetsLost, pliCount } = counted;
    return {
      at, connectedMs, witness: since(witness), joined: since(pictures),
      stats: { framesDecoded, framesDropped, keyFramesDecoded, freezeCount, totalFreezesDuration, packetsLost, pliCount },
    };
  }, options);
  emit("result", result);
});
