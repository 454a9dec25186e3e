// What this module needs of a browser, in one place, so that tests can put something else there.

/**
 * The browser's own.
 *
 * @returns {import('./inlay.d.ts').Environment}
 */
export function browserEnvironment() {
  return {
    WebSocket: globalThis.WebSocket,
    permissions: globalThis.navigator?.permissions,
    document: globalThis.document,
    hostname: globalThis.location?.hostname ?? '',
    navigate: (link) => globalThis.location.assign(link),
    setTimeout: (call, milliseconds) => globalThis.setTimeout(call, milliseconds),
    clearTimeout: (timer) => globalThis.clearTimeout(timer),
  };
}
