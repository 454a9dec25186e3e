// The page's watch of readers: refused, lost, broken, run out first; then live.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { watchReaders } from '../../../protocol/js/inlay.js';
import { agent, PORT, settled, world } from './fakes.mjs';

const READER = { name: 'Reader', card_present: false };
const now = (value) => (id) => ({ jsonrpc: '2.0', id, result: value });
const EMPTY = { readers: [READER], service: true };

function watching(setting, overrides = {}) {
  const shown = [];
  const ended = [];
  const tickets = [];
  const watch = watchReaders({
    ticket: async () => {
      tickets.push(`a.b.${tickets.length}`);
      return tickets.at(-1);
    },
    onReaders: (event) => shown.push(event),
    onEnded: (event) => ended.push(event),
    ports: [PORT],
    environment: setting.environment,
    ...overrides,
  });
  return { watch, shown, ended, tickets };
}

test('the browser is not made to ask', async () => {
  const setting = world({ states: { 'loopback-network': 'prompt' }, agents: { [PORT]: agent() } });
  const { ended } = watching(setting);
  await settled();
  assert.deepEqual(ended, [{ reason: 'permission_prompt', cause: null }]);
  assert.equal(setting.sockets.length, 0);
});

test('the browser asks when the person has clicked for it', async () => {
  const states = { 'loopback-network': 'prompt' };
  const setting = world({ states, agents: { [PORT]: agent({ watch_readers: now(EMPTY) }) } });
  const { shown, ended } = watching(setting, { ask: true });
  await settled();
  assert.equal(shown.length, 1);
  assert.deepEqual(ended, []);
});

test('a browser that was told no is not asked again', async () => {
  const setting = world({ states: { 'loopback-network': 'denied' }, agents: { [PORT]: agent() } });
  const { ended } = watching(setting, { ask: true });
  await settled();
  assert.equal(ended[0].reason, 'permission_denied');
  assert.equal(setting.sockets.length, 0);
});

test('no agent is told', async () => {
  const setting = world();
  const { ended } = watching(setting);
  await settled();
  assert.equal(ended[0].reason, 'no_agent');
});

test('a portal that gives no ticket ends it', async () => {
  const setting = world({ agents: { [PORT]: agent() } });
  const { ended } = watching(setting, { ticket: () => Promise.reject(new Error('401')) });
  await settled();
  assert.deepEqual(ended, [{ reason: 'no_ticket', cause: null }]);
});

test('a refused ticket is told with its cause', async () => {
  const error = { code: 1007, message: 'x', data: { error: 'not_authenticated' } };
  const setting = world({ agents: { [PORT]: agent({ watch_readers: (id) => ({ jsonrpc: '2.0', id, error }) }) } });
  const { ended } = watching(setting);
  await settled();
  assert.equal(ended[0].reason, 'refused');
  assert.equal(ended[0].cause.code, 'not_authenticated');
});

for (const broken of [{}, { readers: [{}], service: true }, { readers: [{ ...READER, atr: 'zz' }], service: true }]) {
  test(`an answer that is none ends it: ${JSON.stringify(broken)}`, async () => {
    const setting = world({ agents: { [PORT]: agent({ watch_readers: now(broken) }) } });
    const { ended, shown } = watching(setting);
    await settled();
    assert.equal(ended[0].reason, 'agent_frame_invalid');
    assert.deepEqual(shown, []);
  });
}

test('changes are told as they come, and a lost agent', async () => {
  const setting = world({ agents: { [PORT]: agent({ watch_readers: now(EMPTY) }) } });
  const { shown, ended } = watching(setting);
  await settled();
  const socket = setting.sockets.at(-1);
  socket.notify('readers', { readers: [{ ...READER, card_present: true, insertions: 1 }], service: true });
  socket.notify('readers', { readers: [], service: false });
  assert.deepEqual(
    shown.map(({ readers, service }) => [readers.length, service]),
    [[1, true], [1, true], [0, false]],
  );
  socket.drop();
  assert.deepEqual(ended, [{ reason: 'agent_closed', cause: null }]);
});

test('a ticket that has run out is followed by a fresh one', async () => {
  const server = agent({ watch_readers: now(EMPTY) });
  const setting = world({ agents: { [PORT]: server } });
  const { tickets, ended, shown } = watching(setting);
  await settled();
  setting.sockets.at(-1).notify('readers', { ...EMPTY, last: true });
  await settled();
  assert.deepEqual(tickets, ['a.b.0', 'a.b.1']);
  assert.deepEqual(
    server.sent.filter((frame) => frame.method === 'watch_readers').map((frame) => frame.params.ticket),
    tickets,
  );
  assert.deepEqual(ended, []);
  assert.equal(shown.length, 3);
});

test('nothing is told after the end', async () => {
  const setting = world({ agents: { [PORT]: agent({ watch_readers: now(EMPTY) }) } });
  const { watch, shown, ended } = watching(setting);
  await settled();
  watch.close();
  setting.sockets.at(-1).notify('readers', EMPTY);
  setting.sockets.at(-1).drop();
  assert.equal(shown.length, 1);
  assert.deepEqual(ended, []);
});

test('without anybody to ask or tell it is a mistake of the page', () => {
  assert.throws(() => watchReaders({ onReaders() {} }), TypeError);
  assert.throws(() => watchReaders({ async ticket() {} }), TypeError);
});
