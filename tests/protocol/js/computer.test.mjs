// The page's check of the computer: refused, broken, absent first; then worded from our own table.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { checkComputer } from '../../../protocol/js/inlay.js';
import { agent, PORT, world } from './fakes.mjs';

const ticket = async () => 'a.b.c';
const answering = (result) => agent({ check_computer: (id) => ({ jsonrpc: '2.0', id, result }) });
const check = (setting, give = ticket) => checkComputer({ ticket: give, ports: [PORT], environment: setting.environment });

test('the browser is not made to ask', async () => {
  const setting = world({ states: { 'loopback-network': 'prompt' }, agents: { [PORT]: answering({ findings: [] }) } });
  assert.equal(await check(setting), null);
  assert.equal(setting.sockets.length, 0);
});

test('without a ticket there is nothing', async () => {
  const setting = world({ agents: { [PORT]: answering({ findings: [] }) } });
  assert.equal(await check(setting, () => Promise.reject(new Error('401'))), null);
});

for (const broken of [{}, { findings: [{ code: 'told_by_a_stranger' }] }, { findings: [{ code: 'card_bare', text: 'x' }] }]) {
  test(`an answer that is none is nothing: ${JSON.stringify(broken)}`, async () => {
    assert.equal(await check(world({ agents: { [PORT]: answering(broken) } })), null);
  });
}

test('findings get their words here', async () => {
  const findings = [
    { code: 'service_answers' },
    { code: 'card_driver', reader: 'Reader', kind: '{driver} <b>', driver: 'piv' },
  ];
  const found = await check(world({ agents: { [PORT]: answering({ findings }) } }));
  assert.deepEqual(found.map(({ level, reader }) => [level, reader]), [['ok', null], ['ok', 'Reader']]);
  assert.equal(found[1].happened, '{driver} <b>, used by the driver piv.');
  assert.equal(found[1].nextStep, '');
});
