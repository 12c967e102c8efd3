// A worker that says "now" at a steady rate. Timers of a page in the background are slowed down, those of a worker are
// not. Message in: frames per second. Messages out: one a frame.

let timer = 0;

self.onmessage = ({ data: framesPerSecond }) => {
  clearInterval(timer);
  timer = setInterval(() => self.postMessage(null), 1000 / framesPerSecond);
};
