// What is the matter with service, readers and cards of this machine, once, for a page with a ticket to read.

import { connect } from './connection.js';
import { findAgent, loopbackPermission, SEARCH_MILLISECONDS } from './discovery.js';
import { browserEnvironment } from './environment.js';
import { FINDINGS, PORTS } from './tables.js';

/** How long the agent may look, in milliseconds: a card that doesn't answer takes it eight seconds. */
export const CHECK_MILLISECONDS = 40_000;

/**
 * Check the computer. Nothing asks the person.
 *
 * @param {import('./inlay.d.ts').CheckOptions} options
 * @returns {Promise<import('./inlay.d.ts').FindingText[] | null>} null when the agent can't be asked
 */
export async function checkComputer({ ticket, ports = PORTS, environment = browserEnvironment() }) {
  const permission = await loopbackPermission(environment);
  if (permission === 'prompt' || permission === 'denied') return null;
  const port = await findAgent(environment, ports, SEARCH_MILLISECONDS);
  if (port === null) return null;
  let connection = null;
  try {
    const signed = await ticket();
    connection = await connect(port, SEARCH_MILLISECONDS, environment);
    return (await connection.checkComputer(signed, CHECK_MILLISECONDS)).findings.map(worded);
  } catch {
    return null; // no ticket, refused, or lost: the page's watch of readers says which
  } finally {
    connection?.close();
  }
}

function worded({ code, reader = null, kind = null, driver = null }) {
  const { level, happened, next_step: nextStep } = FINDINGS[code];
  const fields = { kind: kind ?? 'A card', driver: driver ?? '?' };
  const fill = (text) => text.replace(/\{(kind|driver)\}/g, (_, name) => fields[name]);
  return { code, reader, level, happened: fill(happened), nextStep: fill(nextStep) };
}
