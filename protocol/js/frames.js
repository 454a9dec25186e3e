// The page's end of the loopback socket, as strict as the agent's: what is not a frame of this protocol ends the
// connection. The process at the other end may not be an agent at all.

import { CAUSES, FIELD_FORMS, FINDINGS, MAX_FIELD_NUMBER, MAX_FRAME_BYTES, STEPS, UNTOLD } from './tables.js';

/**
 * @typedef {{kind: 'result', id: number, result: unknown}
 *   | {kind: 'refusal', id: number | null, error: import('./messages.d.ts').ErrorData}
 *   | {kind: 'notification', method: string, params: any}} Incoming
 */

const FRAME_KEYS = new Set(['jsonrpc', 'id', 'method', 'params', 'result', 'error']);
const NONCE = /^[A-Za-z0-9_-]{43}$/;
const IDENTIFIER = /^[A-Za-z0-9_.:-]{1,64}$/;
const ATR = /^([0-9A-F]{2}){0,33}$/;
const MAX_READERS = 64;
const MAX_FINDINGS = 128;
const MAX_KEYS = 24;
const MAX_FIELD_CHARACTERS = 200;

/** A frame, or a message in it, that breaks the protocol. */
export class FrameError extends Error {
  /** @param {string} path where it does, as in `$.params.step` */
  constructor(path) {
    super(`frame_invalid at ${path}`);
    this.name = 'FrameError';
    this.code = 'frame_invalid';
    this.path = path;
  }
}

/**
 * Take a frame apart.
 *
 * @param {unknown} data what the socket delivered
 * @returns {Incoming}
 * @throws {FrameError}
 */
export function readFrame(data) {
  // A string of UTF-16 units is never longer than its UTF-8 bytes, so this bound never refuses what is allowed.
  if (typeof data !== 'string' || data.length > MAX_FRAME_BYTES) throw new FrameError('$');
  let frame;
  try {
    frame = JSON.parse(data);
  } catch {
    throw new FrameError('$');
  }
  check(isObject(frame), '$');
  for (const key of Object.keys(frame)) check(FRAME_KEYS.has(key), `$.${key.slice(0, 40)}`);
  check(frame.jsonrpc === '2.0', '$.jsonrpc');
  return 'method' in frame ? readNotification(frame) : readAnswer(frame);
}

/** @returns {Incoming} */
function readNotification(frame) {
  // The agent never calls the page: whatever it sends by itself wants no answer.
  check(!('id' in frame), '$.id');
  check(!('result' in frame), '$.result');
  check(!('error' in frame), '$.error');
  const reader = Object.hasOwn(NOTIFICATIONS, String(frame.method)) ? NOTIFICATIONS[frame.method] : null;
  check(reader !== null, '$.method');
  return { kind: 'notification', method: frame.method, params: reader(frame.params) };
}

/** @returns {Incoming} */
function readAnswer(frame) {
  check(!('params' in frame), '$.params');
  check('result' in frame !== 'error' in frame, '$.result');
  if ('error' in frame) {
    check(!('id' in frame) || isCount(frame.id), '$.id');
    return { kind: 'refusal', id: frame.id ?? null, error: readErrorObject(frame.error) };
  }
  check(isCount(frame.id), '$.id');
  return { kind: 'result', id: frame.id, result: frame.result };
}

function readErrorObject(error) {
  members(error, '$.error', { code: Number.isInteger, message: isText(400) }, { data: () => true });
  if (error.data === undefined || error.data === null) return { error: 'internal' };
  return readErrorData(error.data, '$.error.data');
}

function readErrorData(data, path) {
  members(data, path, { error: (value) => typeof value === 'string' && IDENTIFIER.test(value) }, { fields: isObject });
  for (const [name, value] of Object.entries(data.fields ?? {})) {
    check(typeof value === 'string' || Number.isInteger(value), `${path}.fields.${name.slice(0, 40)}`);
  }
  if (data.fields === undefined) return data;
  const known = Object.entries(data.fields).filter(([name, value]) => hasForm(name, value));
  return { ...data, fields: Object.fromEntries(known) };
}

/** Whoever sits on the agent's port selects our sentences, and writes none: see `from_wire` of the agent's side. */
function hasForm(name, value) {
  if (typeof value === 'number') return value >= 0 && value < MAX_FIELD_NUMBER;
  return Object.hasOwn(FIELD_FORMS, name) && new RegExp(`^(?:${FIELD_FORMS[name]})$`).test(value);
}

const NOTIFICATIONS = {
  progress(params) {
    members(params, '$.params', { step: (value) => STEPS.includes(value) }, { key: () => true });
    if (params.key !== undefined && params.key !== null) {
      members(params.key, '$.params.key', { number: isKeyNumber, of: isKeyNumber });
    }
    return params;
  },
  completion(params) {
    members(params, '$.params', { completion: (value) => typeof value === 'string' && NONCE.test(value) });
    return params;
  },
  ended(params) {
    const outcome = (value) => ['finished', 'undone', 'refused'].includes(value);
    members(params, '$.params', { outcome }, { error: () => true });
    if (params.error === undefined || params.error === null) return params;
    return { ...params, error: readErrorData(params.error, '$.params.error') };
  },
  readers(params) {
    checkReaders(params, '$.params');
    return params;
  },
};

/**
 * Check how the readers stand.
 *
 * @param {any} value
 * @param {string} path
 * @throws {FrameError}
 */
export function checkReaders(value, path) {
  const list = (readers) => Array.isArray(readers) && readers.length <= MAX_READERS;
  members(value, path, { readers: list, service: isBoolean }, { last: isBoolean });
  for (const [index, reader] of value.readers.entries()) {
    const atr = (text) => typeof text === 'string' && ATR.test(text);
    const insertions = (count) => Number.isInteger(count) && count >= 0;
    members(
      reader,
      `${path}.readers[${index}]`,
      { name: (text) => isText(200)(text) && text.length > 0, card_present: isBoolean },
      { atr, mute: isBoolean, exclusive: isBoolean, insertions },
    );
  }
}

/**
 * Check the answer to `check_computer`.
 *
 * @param {any} value
 * @throws {FrameError}
 */
export function checkFindings(value) {
  const list = (findings) => Array.isArray(findings) && findings.length <= MAX_FINDINGS;
  members(value, '$.result', { findings: list });
  for (const [index, finding] of value.findings.entries()) {
    const code = (text) => typeof text === 'string' && Object.hasOwn(FINDINGS, text);
    const name = (text) => text === null || (isText(200)(text) && text.length > 0);
    const driver = (text) => text === null || text === 'piv' || text === 'pkcs11';
    members(finding, `$.result.findings[${index}]`, { code }, { reader: name, kind: name, driver });
  }
}

/**
 * Check the answer to `hello`.
 *
 * @param {any} result
 * @param {readonly number[]} spoken versions spoken here
 * @throws {FrameError}
 */
export function checkHello(result, spoken) {
  const versions = (value) => Array.isArray(value) && value.every(Number.isInteger);
  members(result, '$.result', { version: Number.isInteger, versions });
  check(spoken.includes(result.version) && result.versions.includes(result.version), '$.result.version');
}

/**
 * Check the answer to `open`.
 *
 * @param {unknown} result
 * @throws {FrameError}
 */
export function checkOpen(result) {
  members(result, '$.result', { accepted: (value) => value === true });
}

/**
 * The texts of a cause that the agent names. One that a page does not know becomes `internal`.
 *
 * @param {import('./messages.d.ts').ErrorData} error
 * @returns {import('./inlay.d.ts').Cause}
 */
export function causeOf(error) {
  const code = Object.hasOwn(CAUSES, error.error) ? error.error : 'internal';
  const fields = new Map(Object.entries({ ...UNTOLD, ...error.fields }));
  const fill = (text) =>
    text.replace(/\{([a-z_]+)\}/g, (_, name) => String(fields.get(name) ?? '?').slice(0, MAX_FIELD_CHARACTERS));
  const { happened, why, next_step } = CAUSES[code];
  return { code, happened: fill(happened), why: fill(why), nextStep: fill(next_step) };
}

function members(value, path, required, optional = {}) {
  check(isObject(value), path);
  for (const key of Object.keys(value)) {
    check(Object.hasOwn(required, key) || Object.hasOwn(optional, key), `${path}.${key.slice(0, 40)}`);
  }
  for (const [key, fits] of Object.entries(required)) {
    check(Object.hasOwn(value, key) && fits(value[key]), `${path}.${key}`);
  }
  for (const [key, fits] of Object.entries(optional)) {
    check(!Object.hasOwn(value, key) || fits(value[key]), `${path}.${key}`);
  }
}

function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isKeyNumber(value) {
  return isCount(value) && value <= MAX_KEYS;
}

function isBoolean(value) {
  return typeof value === 'boolean';
}

function isCount(value) {
  return Number.isInteger(value) && value >= 1;
}

function isText(limit) {
  return (value) => typeof value === 'string' && value.length <= limit;
}

function check(holds, path) {
  if (!holds) throw new FrameError(path);
}
