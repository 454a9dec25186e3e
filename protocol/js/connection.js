// One connection to an agent on this machine: greeted within a deadline, or not there.

import { checkFindings, checkHello, checkOpen, checkReaders, FrameError, readFrame } from './frames.js';
import { PATH, SUBPROTOCOL, VERSIONS } from './tables.js';

/** The agent refused a request, and named the cause. */
export class Refused extends Error {
  /** @param {import('./messages.d.ts').ErrorData} error */
  constructor(error) {
    super(error.error);
    this.name = 'Refused';
    this.error = error;
  }
}

/** The connection ended, or its deadline passed, before the answer came. */
export class Lost extends Error {
  /** @param {'closed' | 'silent' | 'frame_invalid' | 'blocked' | 'refused'} reason */
  constructor(reason) {
    super(reason);
    this.name = 'Lost';
    this.reason = reason;
  }
}

/** A connection that has been greeted. Made by `connect`. */
class Connection {
  #socket;
  #environment;
  #onNotification;
  #onLost;
  #pending = null;
  #nextId = 1;
  #over = false;

  constructor(socket, environment, { onNotification, onLost }) {
    this.#socket = socket;
    this.#environment = environment;
    this.#onNotification = onNotification;
    this.#onLost = onLost;
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = () => this.#end(new Lost('closed'));
    socket.onerror = () => this.#end(new Lost('closed'));
  }

  /**
   * Hand a code over.
   *
   * @param {string} portal
   * @param {string} code
   * @param {number} milliseconds deadline
   * @throws {Refused | Lost}
   */
  async open(portal, code, milliseconds) {
    const result = await this.call('open', { portal, code }, milliseconds);
    this.#verify(() => checkOpen(result));
  }

  /**
   * Be told of readers and cards: how they stand now, then a notification at each change.
   *
   * @param {string} ticket
   * @param {number} milliseconds deadline
   * @returns {Promise<import('./messages.d.ts').ReadersParams>}
   * @throws {Refused | Lost}
   */
  async watchReaders(ticket, milliseconds) {
    const result = await this.call('watch_readers', { ticket }, milliseconds);
    this.#verify(() => checkReaders(result, '$.result'));
    return result;
  }

  /**
   * Have the agent look at service, readers and cards.
   *
   * @param {string} ticket
   * @param {number} milliseconds deadline
   * @returns {Promise<import('./messages.d.ts').CheckComputerResult>}
   * @throws {Refused | Lost}
   */
  async checkComputer(ticket, milliseconds) {
    const result = await this.call('check_computer', { ticket }, milliseconds);
    this.#verify(() => checkFindings(result));
    return result;
  }

  async hello(milliseconds) {
    const result = await this.call('hello', { versions: VERSIONS }, milliseconds);
    this.#verify(() => checkHello(result, VERSIONS));
  }

  call(method, params, milliseconds) {
    if (this.#over) return Promise.reject(new Lost('closed'));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const timer = this.#environment.setTimeout(() => this.#end(new Lost('silent')), milliseconds);
      this.#pending = { id, resolve, reject, timer };
      this.#socket.send(JSON.stringify({ jsonrpc: '2.0', id, method, params }));
    });
  }

  /** End the connection; nothing is reported after it. */
  close() {
    this.#onLost = () => {};
    this.#end(new Lost('closed'));
  }

  #receive(data) {
    if (this.#over) return;
    try {
      const frame = readFrame(data);
      if (frame.kind === 'notification') this.#onNotification(frame.method, frame.params);
      else this.#settle(frame);
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      this.#end(new Lost('frame_invalid'));
    }
  }

  #settle(frame) {
    const pending = this.#pending;
    const fits = frame.id === pending?.id || (frame.kind === 'refusal' && frame.id === null);
    if (!fits || pending === null) throw new FrameError('$.id');
    this.#pending = null;
    this.#environment.clearTimeout(pending.timer);
    if (frame.kind === 'result') pending.resolve(frame.result);
    else pending.reject(new Refused(frame.error));
  }

  #verify(check) {
    try {
      check();
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      const lost = new Lost('frame_invalid');
      this.#end(lost);
      throw lost;
    }
  }

  #end(lost) {
    if (this.#over) return;
    this.#over = true;
    this.#socket.onmessage = this.#socket.onclose = this.#socket.onerror = null;
    this.#socket.close();
    const pending = this.#pending;
    this.#pending = null;
    if (pending !== null) {
      this.#environment.clearTimeout(pending.timer);
      pending.reject(lost);
    } else {
      this.#onLost(lost);
    }
  }
}

/**
 * Connect to an agent and greet it.
 *
 * A socket that is still connecting at the deadline is closed: a browser may hold it back for as long as it
 * waits for a person.
 *
 * @param {number} port
 * @param {number} milliseconds deadline, for the connection and again for the greeting
 * @param {import('./inlay.d.ts').Environment} environment
 * @param {{onNotification?: (method: string, params: object) => void, onLost?: (lost: Lost) => void,
 *   signal?: AbortSignal}} [handlers]
 * @returns {Promise<Connection>}
 * @throws {Lost} a refused greeting, too: who does not speak our language is not there
 */
export async function connect(port, milliseconds, environment, handlers = {}) {
  const { onNotification = () => {}, onLost = () => {}, signal } = handlers;
  const socket = await opened(port, milliseconds, environment, signal);
  const connection = new Connection(socket, environment, { onNotification, onLost });
  signal?.addEventListener('abort', () => connection.close(), { once: true });
  if (signal?.aborted) connection.close();
  try {
    await connection.hello(milliseconds);
  } catch (error) {
    connection.close();
    throw error instanceof Refused ? new Lost('refused') : error;
  }
  return connection;
}

function opened(port, milliseconds, environment, signal) {
  return new Promise((resolve, reject) => {
    let socket;
    try {
      socket = new environment.WebSocket(`ws://127.0.0.1:${port}${PATH}`, SUBPROTOCOL);
    } catch {
      // Safari and content security policies refuse here, before anything is sent.
      reject(new Lost('blocked'));
      return;
    }
    const timer = environment.setTimeout(() => giveUp('silent'), milliseconds);
    const aborted = () => giveUp('closed');
    const settle = () => {
      environment.clearTimeout(timer);
      signal?.removeEventListener('abort', aborted);
      socket.onopen = socket.onclose = socket.onerror = null;
    };
    const giveUp = (reason) => {
      settle();
      socket.close();
      reject(new Lost(reason));
    };
    signal?.addEventListener('abort', aborted, { once: true });
    socket.onerror = socket.onclose = () => giveUp('closed');
    socket.onopen = () => {
      if (socket.protocol !== SUBPROTOCOL) {
        giveUp('frame_invalid');
        return;
      }
      settle();
      resolve(socket);
    };
  });
}
