// Is there an agent that this page may talk to directly? Asked without ever making the browser ask the person.

import { connect } from './connection.js';
import { PORTS } from './tables.js';

/** How long the agent is looked for, in milliseconds: all of it. */
export const SEARCH_MILLISECONDS = 300;

// Newest name first. Before loopback was told apart from the local network there was one name for both.
const PERMISSION_NAMES = ['loopback-network', 'local-network-access', 'local-network'];

// A page that itself comes from this machine needs no permission, though browsers answer `prompt` for it.
const LOOPBACK_HOST = /^(localhost|[a-z0-9.-]+\.localhost|127(\.[0-9]{1,3}){3}|\[::1\])$/;

/**
 * What the browser says of connections to this machine.
 *
 * @param {import('./inlay.d.ts').Environment} environment
 * @returns {Promise<'granted' | 'prompt' | 'denied' | 'unknown'>} `unknown` when the browser knows no such permission
 */
export async function loopbackPermission(environment) {
  for (const name of PERMISSION_NAMES) {
    try {
      const status = await environment.permissions.query({ name });
      const state = status?.state;
      if (state === 'prompt' && LOOPBACK_HOST.test(environment.hostname)) return 'granted';
      if (state === 'granted' || state === 'prompt' || state === 'denied') return state;
    } catch {
      // A name the browser doesn't know is a TypeError, a browser without the interface too: try the next.
    }
  }
  return 'unknown';
}

/**
 * Look for an agent on all ports at once.
 *
 * @param {import('./inlay.d.ts').Environment} environment
 * @param {readonly number[]} [ports]
 * @param {number} [milliseconds]
 * @returns {Promise<number | null>} the port of the first that greets properly; the others are closed
 */
export async function findAgent(environment, ports = PORTS, milliseconds = SEARCH_MILLISECONDS) {
  const search = new AbortController();
  const timer = environment.setTimeout(() => search.abort(), milliseconds);
  const attempts = ports.map(async (port) => {
    const connection = await connect(port, milliseconds, environment, { signal: search.signal });
    connection.close();
    return port;
  });
  try {
    return await Promise.any(attempts);
  } catch {
    return null; // an AggregateError: nobody answered
  } finally {
    environment.clearTimeout(timer);
    search.abort();
  }
}
