// Opens Inlay from a web page: by the loopback socket where the browser allows it, else by the link.
//
// The link is a real <a href="inlay:…"> that works by itself from the first moment on. This module only makes
// things smoother: it finds out, without a question to the person, whether an agent can be reached directly, and
// then hands the code over there. Whenever that fails before the agent has taken the code, the link is followed.

import { connect, Lost, Refused } from './connection.js';
import { findAgent, loopbackPermission, SEARCH_MILLISECONDS } from './discovery.js';
import { browserEnvironment } from './environment.js';
import { causeOf } from './frames.js';
import { parseLink } from './link.js';
import { PORTS } from './tables.js';

export { checkComputer } from './computer.js';
export { browserEnvironment } from './environment.js';
export { causeOf } from './frames.js';
export { LinkError, parseLink } from './link.js';
export { watchReaders } from './readers.js';
export { createSilenceWatch, SILENCE_MILLISECONDS } from './silence.js';
export { CAUSES, FINDINGS, PORTS, POSSIBILITIES, STEPS } from './tables.js';

/** How long an agent that was found may take to greet anew at the click, in milliseconds: a busy machine is no reason
 * to make the browser ask. With the answer's time it stays within the five seconds for which a click opens a link. */
export const GREET_MILLISECONDS = 1000;

/** How long the agent may take to say that it has the code, in milliseconds. */
export const ACCEPT_MILLISECONDS = 2000;

class Opener {
  #options;
  #environment;
  #link;
  #port = null;
  #reason = 'not_prepared';
  #handingOver = false;
  #mute = false;
  #connection = null;
  #closed = false;

  constructor(options) {
    this.#options = { ports: PORTS, ...options };
    this.#environment = options.environment ?? browserEnvironment();
    this.renew(options.link);
  }

  async prepare() {
    const permission = await loopbackPermission(this.#environment);
    if (permission === 'prompt' || permission === 'denied') {
      this.#reason = `permission_${permission}`;
      return 'link';
    }
    this.#port = await findAgent(this.#environment, this.#options.ports, SEARCH_MILLISECONDS);
    this.#reason = 'no_agent';
    return this.#port === null ? 'link' : 'loopback';
  }

  renew(link) {
    this.#link = parseLink(link);
  }

  open(event) {
    if (this.#closed) return;
    if (this.#handingOver) {
      event.preventDefault(); // the second click of a double click
      return;
    }
    // Whoever took the code and has said nothing since may be no agent at all: the second click takes the link.
    if (this.#mute) this.#giveUpOn('agent_mute');
    if (this.#port === null) {
      this.#tell('onPath', { path: 'link', reason: this.#reason });
    } else {
      event.preventDefault();
      void this.#handOver(this.#port);
    }
  }

  close() {
    this.#closed = true;
    this.#connection?.close();
    this.#connection = null;
  }

  async #handOver(port) {
    this.#handingOver = true;
    this.#connection?.close();
    this.#connection = null;
    let connection = null;
    try {
      // The agent is greeted anew: it closes connections that idle, and minutes may lie between search and click.
      connection = await connect(port, GREET_MILLISECONDS, this.#environment, {
        onNotification: (method, params) => this.#notified(connection, method, params),
        onLost: (lost) => this.#lost(lost),
      });
      if (this.#closed) {
        connection.close();
        return;
      }
      this.#connection = connection;
      this.#mute = true;
      await connection.open(this.#link.portal, this.#link.code, ACCEPT_MILLISECONDS);
      this.#tell('onPath', { path: 'loopback', reason: 'accepted' });
    } catch (error) {
      connection?.close();
      this.#failed(error);
    } finally {
      this.#handingOver = false;
    }
  }

  #failed(error) {
    if (error instanceof Refused) {
      this.#giveUpOn('agent_refused');
      this.#tell('onEnded', { outcome: 'refused', cause: this.#causeOf(error.error) });
    } else {
      if (!(error instanceof Lost)) throw error;
      this.#giveUpOn(`agent_${error.reason}`);
      if (this.#closed) return;
      this.#tell('onPath', { path: 'link', reason: this.#reason });
      this.#environment.navigate(this.#link.link);
    }
  }

  /** The portal is this page's own, whatever the other end calls it. */
  #causeOf(error) {
    return causeOf({ ...error, fields: { ...error.fields, portal: this.#link.portal } });
  }

  #giveUpOn(reason) {
    this.#connection?.close();
    this.#connection = null;
    this.#port = null;
    this.#mute = false;
    this.#reason = reason;
  }

  #notified(connection, method, params) {
    if (connection === null) return; // before the code was handed over there is nothing to tell
    this.#mute = false;
    if (method === 'progress') this.#tell('onProgress', params);
    else if (method === 'completion') this.#complete(params.completion);
    else {
      connection.close();
      this.#connection = null;
      const cause = params.error ? this.#causeOf(params.error) : null;
      this.#tell('onEnded', { outcome: params.outcome, cause });
    }
  }

  #complete(secret) {
    // What becomes of it the page hears from its portal, in the event stream; a call that fails is told here.
    Promise.resolve()
      .then(() => this.#options.completion(secret))
      .catch(() => {
        const fields = { portal: this.#link.portal, cause: 'the page got no answer' };
        this.#tell('onTrouble', causeOf({ error: 'portal_unreachable', fields }));
      });
  }

  #lost(lost) {
    if (this.#handingOver) return; // `open` fails with it, and the link is followed
    // After the code was taken nothing is lost with the socket: the portal's own events go on.
    this.#connection = null;
    this.#tell('onPath', { path: 'portal', reason: `agent_${lost.reason}` });
  }

  #tell(name, value) {
    if (!this.#closed) this.#options[name]?.(value);
  }
}

/**
 * Make an opener for one link.
 *
 * @param {import('./inlay.d.ts').OpenerOptions} options
 * @returns {import('./inlay.d.ts').Opener}
 * @throws {TypeError} when the link isn't one (a `LinkError`), or there is nobody to hand the completion to
 */
export function createOpener(options) {
  if (typeof options.completion !== 'function') throw new TypeError('completion');
  return new Opener(options);
}
