// A browser without a browser: sockets, permissions, page and clock under the test's hand.

export class Clock {
  now = 0;
  #timers = new Map();
  #next = 1;

  setTimeout = (call, milliseconds) => {
    this.#timers.set(this.#next, { call, at: this.now + milliseconds });
    return this.#next++;
  };
  clearTimeout = (timer) => this.#timers.delete(timer);
  get pending() {
    return this.#timers.size;
  }

  async advance(milliseconds) {
    const end = this.now + milliseconds;
    for (;;) {
      await settled();
      const due = [...this.#timers].filter(([, timer]) => timer.at <= end).sort((a, b) => a[1].at - b[1].at)[0];
      if (!due) break;
      this.#timers.delete(due[0]);
      this.now = due[1].at;
      due[1].call();
    }
    this.now = end;
    await settled();
  }
}

/** Let everything that waits on promises alone run. */
export async function settled() {
  for (let turn = 0; turn < 12; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** An agent for `network`: what it does with each frame; `sent` keeps what the page sent. */
export function agent(overrides = {}) {
  return {
    sent: [],
    protocol: 'inlay.v1',
    opens: true,
    hello: (id) => ({ jsonrpc: '2.0', id, result: { version: 1, versions: [1] } }),
    open: (id) => ({ jsonrpc: '2.0', id, result: { accepted: true } }),
    ...overrides,
  };
}

/** WebSocket whose other ends are agents by port. No agent: refused. `opens: false`: hangs, as behind a prompt. */
export function network(agents) {
  const sockets = [];
  class FakeSocket {
    readyState = 0;
    protocol = '';
    onopen = null;
    onmessage = null;
    onclose = null;
    onerror = null;

    constructor(url, protocol) {
      this.url = url;
      this.offered = protocol;
      this.agent = agents[new URL(url).port];
      sockets.push(this);
      if (this.agent?.throws) throw new DOMException('refused', 'SecurityError');
      if (this.agent?.opens === false) return;
      setImmediate(() => (this.agent ? this.#opened() : this.drop()));
    }
    #opened() {
      if (this.readyState !== 0) return;
      this.readyState = 1;
      this.protocol = this.agent.protocol;
      this.onopen?.();
    }
    send(text) {
      const frame = JSON.parse(text);
      this.agent.sent.push(frame);
      const answer = this.agent[frame.method]?.(frame.id, frame.params, this);
      if (answer !== undefined) setImmediate(() => this.deliver(answer));
    }
    deliver(frame) {
      this.onmessage?.({ data: typeof frame === 'object' && frame !== null ? JSON.stringify(frame) : frame });
    }
    notify(method, params) {
      this.deliver({ jsonrpc: '2.0', method, params });
    }
    drop() {
      if (this.readyState === 3) return;
      this.readyState = 3;
      this.onerror?.();
      this.onclose?.();
    }
    close() {
      this.readyState = 3;
    }
  }
  return { FakeSocket, sockets };
}

export function permissions(states) {
  const asked = [];
  return {
    asked,
    async query({ name }) {
      asked.push(name);
      if (!(name in states)) throw new TypeError(name);
      return { state: states[name] };
    },
  };
}

export function page() {
  const listeners = new Set();
  return {
    visibilityState: 'visible',
    addEventListener: (_name, call) => listeners.add(call),
    removeEventListener: (_name, call) => listeners.delete(call),
    listeners,
    show(state) {
      this.visibilityState = state;
      for (const call of listeners) call();
    },
  };
}

export function click() {
  const event = { prevented: false, preventDefault: () => (event.prevented = true) };
  return event;
}

export const PORTAL = 'portal.test:8443';
export const CODE = 'abcdefghijklmnopqrstuv';
export const LINK = `inlay:${PORTAL}/${CODE}`;
export const SECRET = 'n'.repeat(43);
export const PORT = 27413;

/** A world with agents by port and the browser's permission states; what was told is in `told`. */
export function world({ agents = {}, states = { 'loopback-network': 'granted' }, hostname = 'portal.test' } = {}) {
  const clock = new Clock();
  const { FakeSocket, sockets } = network(agents);
  const told = [];
  const navigated = [];
  const completed = [];
  const environment = {
    WebSocket: FakeSocket,
    permissions: states === null ? undefined : permissions(states),
    document: page(),
    hostname,
    navigate: (link) => navigated.push(link),
    setTimeout: clock.setTimeout,
    clearTimeout: clock.clearTimeout,
  };
  const tell = (name) => (value) => told.push([name, value]);
  const options = {
    link: LINK,
    completion: async (secret) => void completed.push(secret),
    onPath: tell('path'),
    onProgress: tell('progress'),
    onEnded: tell('ended'),
    onTrouble: tell('trouble'),
    environment,
  };
  return { clock, sockets, told, navigated, completed, environment, options };
}
