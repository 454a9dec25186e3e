// Readers and cards of this machine as they come and go, for a page whose portal signed it a ticket to read.

import { connect, Lost, Refused } from './connection.js';
import { findAgent, loopbackPermission, SEARCH_MILLISECONDS } from './discovery.js';
import { browserEnvironment } from './environment.js';
import { causeOf } from './frames.js';
import { PORTS } from './tables.js';

/** How long the agent may take to say how the readers stand, in milliseconds. */
export const LOOK_MILLISECONDS = 5000;

/** How long the person may take to answer the browser's question, in milliseconds. */
export const ASK_MILLISECONDS = 60_000;

class ReaderWatch {
  #options;
  #environment;
  #connection = null;
  #over = false;

  constructor(options) {
    this.#options = { ports: PORTS, ...options };
    this.#environment = options.environment ?? browserEnvironment();
  }

  async run() {
    const permission = await loopbackPermission(this.#environment);
    const asks = permission === 'prompt' && this.#options.ask === true;
    if (permission === 'denied' || (permission === 'prompt' && !asks)) return this.#end(`permission_${permission}`);
    const milliseconds = asks ? ASK_MILLISECONDS : SEARCH_MILLISECONDS;
    const port = await findAgent(this.#environment, this.#options.ports, milliseconds);
    if (this.#over) return;
    if (port === null) return this.#end('no_agent');
    await this.#follow(port);
  }

  close() {
    this.#over = true;
    this.#connection?.close();
    this.#connection = null;
  }

  async #follow(port) {
    try {
      await this.#begin(port);
    } catch (error) {
      if (error instanceof Refused) this.#end('refused', causeOf(error.error));
      else this.#end(error instanceof Lost ? `agent_${error.reason}` : 'no_ticket');
    }
  }

  async #begin(port) {
    const ticket = await this.#options.ticket();
    if (this.#over) return;
    const connection = await connect(port, SEARCH_MILLISECONDS, this.#environment, {
      onNotification: (method, params) => this.#notified(port, method, params),
      onLost: (lost) => this.#end(`agent_${lost.reason}`),
    });
    if (this.#over) {
      connection.close();
      return;
    }
    this.#connection = connection;
    this.#tell(await connection.watchReaders(ticket, LOOK_MILLISECONDS));
  }

  #notified(port, method, params) {
    if (method !== 'readers' || this.#over) return;
    this.#tell(params);
    if (!params.last) return;
    // The ticket has run out: the same again with a fresh one.
    this.#connection?.close();
    this.#connection = null;
    void this.#follow(port);
  }

  #tell({ readers, service }) {
    if (!this.#over) this.#options.onReaders({ readers, service });
  }

  #end(reason, cause = null) {
    if (this.#over) return;
    this.close();
    this.#options.onEnded?.({ reason, cause });
  }
}

/**
 * Watch the readers. Nothing asks the person unless `ask` says so; where the agent can't be reached directly it is told
 * at once.
 *
 * @param {import('./inlay.d.ts').ReaderWatchOptions} options
 * @returns {import('./inlay.d.ts').ReaderWatch}
 * @throws {TypeError} there is nobody to ask for a ticket, or nobody to tell
 */
export function watchReaders(options) {
  for (const name of ['ticket', 'onReaders']) {
    if (typeof options[name] !== 'function') throw new TypeError(name);
  }
  const watch = new ReaderWatch(options);
  void watch.run();
  return { close: () => watch.close() };
}
