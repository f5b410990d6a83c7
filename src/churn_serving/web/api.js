/** The service's answers, and what to say when there is none. All paths are relative to the page. */

/** @typedef {{loc: (string | number)[], msg: string, type: string}} Detail */

/** What the service refused, or that it did not answer. The message is a sentence for people. */
export class Refusal extends Error {
  /**
   * @param {number} status 0: there was no answer.
   * @param {string} sentence
   * @param {Detail[]} [detail]
   * @param {number} [retryAfter] In seconds; 0: to try again is of no use.
   */
  constructor(status, sentence, detail = [], retryAfter = 0) {
    super(sentence);
    this.status = status;
    this.detail = detail;
    this.retryAfter = retryAfter;
  }
}

const TIRELESS_TRIES = 20;
const LONGEST_WAIT = 30;

const SENTENCES = /** @type {Record<number, string>} */ ({
  0: "The service does not answer. Is it running, and is the network there?",
  413: "The request is larger than the service, or a proxy before it, takes.",
  429: "The service is busy.",
  503: "The service is not ready.",
  504: "The service did not answer in time.",
});

/** Calls the service. The key is in this object, and nowhere else. */
export class Api {
  /** @param {(refused: boolean) => Promise<string>} askForKey Told whether one was refused. */
  constructor(askForKey) {
    this.askForKey = askForKey;
    this.key = "";
    /** @type {Promise<void> | null} */
    this.asking = null;
  }

  /**
   * Return the JSON of a path.
   * @param {string} path
   * @param {AbortSignal} [signal]
   */
  get(path, signal) {
    return this.call(path, {}, signal);
  }

  /**
   * Return the JSON that answers a body.
   * @param {string} path
   * @param {unknown} body
   * @param {AbortSignal} [signal]
   */
  post(path, body, signal) {
    const headers = { "Content-Type": "application/json" };
    return this.call(path, { method: "POST", headers, body: JSON.stringify(body) }, signal);
  }

  /**
   * The same, but wait as long as the service asks for while it is busy.
   * @param {string} path
   * @param {unknown} body
   * @param {AbortSignal} signal
   * @param {(seconds: number) => void} onWait
   */
  async postPatiently(path, body, signal, onWait) {
    for (let tries = 1; ; tries++) {
      try {
        return await this.post(path, body, signal);
      } catch (error) {
        if (!(error instanceof Refusal) || !error.retryAfter || tries === TIRELESS_TRIES) throw error;
        const seconds = Math.min(error.retryAfter, LONGEST_WAIT);
        onWait(seconds);
        await pause(seconds, signal);
      }
    }
  }

  /**
   * @param {string} path
   * @param {RequestInit & {headers?: Record<string, string>}} request
   * @param {AbortSignal} [signal]
   * @returns {Promise<any>}
   */
  async call(path, request, signal) {
    for (;;) {
      const key = this.key;
      const headers = { ...request.headers, ...(key ? { "X-API-Key": key } : {}) };
      let response;
      let body;
      try {
        response = await fetch(path, {
          ...request, headers, signal, credentials: "same-origin", cache: "no-cache",
        });
        body = await json(response);
      } catch (error) {
        if (signal?.aborted) throw error;
        throw new Refusal(0, SENTENCES[0]);
      }
      if (response.ok && body !== null) return body;
      if (response.status !== 401) throw refusal(response, body);
      await this.newKey(key, signal);
    }
  }

  /**
   * Wait for another key than the one that was refused; all who wait get the same one.
   * @param {string} refused
   * @param {AbortSignal} [signal]
   */
  async newKey(refused, signal) {
    if (this.key !== refused) return;
    this.asking ??= this.askForKey(refused !== "").then((key) => {
      this.key = key;
      this.asking = null;
    });
    await unlessAborted(this.asking, signal);
  }
}

/** @param {Response} response */
async function json(response) {
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/**
 * @param {Response} response
 * @param {any} body
 */
function refusal(response, body) {
  const { status } = response;
  const own = typeof body?.error === "string" ? body.error : "";
  // Written as seconds by this service; a proxy may write a date.
  const seconds = Number(response.headers.get("Retry-After") ?? 1);
  const retryAfter = [429, 503].includes(status) ? Math.max(1, seconds || 1) : 0;
  const sentence = own || SENTENCES[status] || `The service answered with an error (${status}).`;
  return new Refusal(status, sentence, Array.isArray(body?.detail) ? body.detail : [], retryAfter);
}

/**
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal} [signal]
 */
function unlessAborted(promise, signal) {
  if (!signal) return promise;
  return Promise.race([
    promise,
    new Promise((_, reject) => {
      if (signal.aborted) reject(signal.reason);
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    }),
  ]);
}

/**
 * @param {number} seconds
 * @param {AbortSignal} [signal]
 */
export function pause(seconds, signal) {
  return unlessAborted(new Promise((done) => setTimeout(done, 1000 * seconds)), signal);
}
