// Waiting between tries: longer each time, never in step with other pages, cut short when trying may pay off.

export class Backoff {
  #seconds;
  #first;
  #most;
  #wake = null;

  /** `first` and `most` in seconds. */
  constructor(first, most) {
    this.#first = first;
    this.#most = most;
    this.#seconds = first;
    const now = () => document.visibilityState === 'visible' && this.wake();
    document.addEventListener('visibilitychange', now);
    window.addEventListener('online', now);
  }

  /** The next wait starts small again. */
  reset() {
    this.#seconds = this.#first;
  }

  /** Ends a wait that is under way. */
  wake() {
    this.#wake?.();
  }

  /** Waits at least `atLeast` seconds (what a server asked for), unless woken. */
  wait(atLeast = 0) {
    const seconds = Math.max(this.#seconds * (0.8 + 0.4 * Math.random()), Math.min(atLeast, this.#most));
    this.#seconds = Math.min(this.#seconds * 1.5, this.#most);
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, seconds * 1000);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
