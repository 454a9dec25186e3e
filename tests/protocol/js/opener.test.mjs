import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createOpener, GREET_MILLISECONDS, PORTS } from '../../../protocol/js/inlay.js';
import { CODE, LINK, PORT, PORTAL, SECRET, agent, click, settled, world } from './fakes.mjs';

const refusal = (id, error, fields = {}) => ({
  jsonrpc: '2.0',
  id,
  error: { code: 1316, message: 'refused', data: { error, fields } },
});

async function prepared(setting) {
  const opener = createOpener(setting.options);
  const path = opener.prepare();
  await setting.clock.advance(300);
  return { opener, path: await path };
}

async function opened(setting) {
  const { opener } = await prepared(setting);
  const event = click();
  opener.open(event);
  await settled();
  return { opener, event, socket: setting.sockets.at(-1) };
}

// --- what is no link ----------------------------------------------------------------------

for (const [about, change] of [
  ['a portal that is an address', { link: `inlay:https://portal.test/${CODE}` }],
  ['a code too short', { link: `inlay:${PORTAL}/abc` }],
  ['a link of another scheme', { link: `javascript:${PORTAL}/${CODE}` }],
  ['no completion', { completion: undefined }],
]) {
  test(`an opener refuses ${about}`, () => {
    assert.throws(() => createOpener({ ...world().options, ...change }), TypeError);
  });
}

// --- permission: the browser is never made to ask ---------------------------------------------------------

for (const state of ['prompt', 'denied']) {
  test(`permission ${state}: the link at once, no socket at all`, async () => {
    const setting = world({ agents: { [PORT]: agent() }, states: { 'loopback-network': state } });
    const opener = createOpener(setting.options);
    assert.equal(await opener.prepare(), 'link'); // without the clock moving
    const event = click();
    opener.open(event);
    assert.equal(event.prevented, false);
    assert.equal(setting.sockets.length, 0);
    assert.deepEqual(setting.told, [['path', { path: 'link', reason: `permission_${state}` }]]);
  });
}

for (const hostname of ['localhost', 'portal.localhost', '127.0.0.1', '[::1]']) {
  test(`a page from ${hostname} needs no permission, unless it is denied`, async () => {
    const setting = (state) => world({ agents: { [PORT]: agent() }, states: { 'loopback-network': state }, hostname });
    assert.equal((await prepared(setting('prompt'))).path, 'loopback');
    assert.equal((await prepared(setting('denied'))).path, 'link');
  });
}

for (const hostname of ['localhost.test', '127.0.0.1.test', '1270.0.0.1', '127.test']) {
  test(`a page from ${hostname} is not from this machine`, async () => {
    const states = { 'loopback-network': 'prompt' };
    assert.equal((await prepared(world({ agents: { [PORT]: agent() }, states, hostname }))).path, 'link');
  });
}

test('an older browser is asked by the older name', async () => {
  const setting = world({ agents: { [PORT]: agent() }, states: { 'local-network-access': 'denied' } });
  assert.equal((await prepared(setting)).path, 'link');
  assert.deepEqual(setting.environment.permissions.asked, ['loopback-network', 'local-network-access']);
});

for (const [about, states] of [
  ['knows no such permission', {}],
  ['has no permissions interface', null],
  ['grants it', { 'loopback-network': 'granted' }],
]) {
  test(`a browser that ${about} is tried`, async () => {
    assert.equal((await prepared(world({ agents: { [PORT]: agent() }, states }))).path, 'loopback');
  });
}

// --- looking for the agent --------------------------------------------------------------------------------

test('a click before the search has ended follows the link', () => {
  const setting = world({ agents: { [PORT]: agent() } });
  const opener = createOpener(setting.options);
  void opener.prepare();
  const event = click();
  opener.open(event);
  assert.equal(event.prevented, false);
  assert.deepEqual(setting.told, [['path', { path: 'link', reason: 'not_prepared' }]]);
});

test('all ports are tried at once, on 127.0.0.1 and with the subprotocol', async () => {
  const setting = world();
  await prepared(setting);
  assert.deepEqual(
    setting.sockets.map((socket) => socket.url),
    PORTS.map((port) => `ws://127.0.0.1:${port}/inlay`),
  );
  assert.ok(setting.sockets.every((socket) => socket.offered === 'inlay.v1'));
});

test('nobody there: the link', async () => {
  const setting = world();
  const { opener, path } = await prepared(setting);
  const event = click();
  opener.open(event);
  assert.equal(path, 'link');
  assert.equal(event.prevented, false);
  assert.deepEqual(setting.told, [['path', { path: 'link', reason: 'no_agent' }]]);
});

test('sockets that hang are given up after 300 ms and closed', async () => {
  const hanging = Object.fromEntries(PORTS.map((port) => [port, agent({ opens: false })]));
  const setting = world({ agents: hanging });
  const opener = createOpener(setting.options);
  const path = opener.prepare();
  await setting.clock.advance(299);
  assert.ok(setting.sockets.every((socket) => socket.readyState === 0));
  await setting.clock.advance(1);
  assert.equal(await path, 'link');
  assert.ok(setting.sockets.every((socket) => socket.readyState === 3));
  assert.equal(setting.clock.pending, 0);
});

test('a hanging port does not hold up the one that answers', async () => {
  const setting = world({ agents: { 27411: agent({ opens: false }), [PORT]: agent() } });
  const opener = createOpener(setting.options);
  assert.equal(await opener.prepare(), 'loopback'); // without the clock moving
  assert.ok(setting.sockets.every((socket) => socket.readyState === 3));
});

for (const [about, squatter] of [
  ['another subprotocol', agent({ protocol: '' })],
  ['no answer', agent({ hello: () => undefined })],
  ['not JSON', agent({ hello: () => 'hello' })],
  ['a version we do not speak', agent({ hello: (id) => ({ jsonrpc: '2.0', id, result: { version: 2, versions: [2] } }) })],
  ['another id', agent({ hello: (id) => ({ jsonrpc: '2.0', id: id + 1, result: { version: 1, versions: [1] } }) })],
  ['more than it may', agent({ hello: (id) => ({ jsonrpc: '2.0', id, result: { version: 1, versions: [1], host: 'a' } }) })],
  ['a call of its own', agent({ hello: () => ({ jsonrpc: '2.0', id: 1, method: 'open', params: {} }) })],
  ['a frame too large', agent({ hello: () => `"${'a'.repeat(70_000)}"` })],
  ['binary data', agent({ hello: () => null })],
  ['a refusal', agent({ hello: (id) => refusal(id, 'version_unsupported') })],
  ['a constructor that throws', agent({ throws: true })],
]) {
  test(`a squatter with ${about} is passed over, and gets no code`, async () => {
    const setting = world({ agents: { 27411: squatter, [PORT]: agent() } });
    const { path } = await prepared(setting);
    assert.equal(path, 'loopback');
    assert.ok(squatter.sent.every((frame) => frame.method === 'hello'));
    const { path: alone } = await prepared(world({ agents: { 27411: squatter } }));
    assert.equal(alone, 'link');
  });
}

// --- handing the code over --------------------------------------------------------------------------------

for (const [about, change, reason] of [
  ['breaks', { open: (_id, _params, socket) => void setImmediate(() => socket.drop()) }, 'agent_closed'],
  ['says nothing', { open: () => undefined }, 'agent_silent'],
  ['says something else', { open: (id) => ({ jsonrpc: '2.0', id, result: { accepted: false } }) }, 'agent_frame_invalid'],
  ['sends rubbish', { open: () => '{' }, 'agent_frame_invalid'],
]) {
  test(`an agent that ${about} before it has the code: the link is followed`, async () => {
    const setting = world({ agents: { [PORT]: agent(change) } });
    const { event, opener } = await opened(setting);
    await setting.clock.advance(2000);
    assert.equal(event.prevented, true);
    assert.deepEqual(setting.navigated, [LINK]);
    assert.deepEqual(setting.told, [['path', { path: 'link', reason }]]);
    const second = click();
    opener.open(second);
    assert.equal(second.prevented, false); // from now on the link itself
    assert.equal(setting.clock.pending, 0);
  });
}

test('an agent that is gone by the time of the click: the link is followed', async () => {
  const agents = { [PORT]: agent() };
  const setting = world({ agents });
  const { opener } = await prepared(setting);
  delete agents[PORT];
  opener.open(click());
  await setting.clock.advance(300);
  assert.deepEqual(setting.navigated, [LINK]);
});

test('an agent behind a sudden prompt is waited for a second', async () => {
  const there = agent();
  const setting = world({ agents: { [PORT]: there } });
  const { opener } = await prepared(setting);
  there.opens = false;
  opener.open(click());
  await setting.clock.advance(GREET_MILLISECONDS - 1);
  assert.deepEqual(setting.navigated, []);
  await setting.clock.advance(1);
  assert.deepEqual(setting.navigated, [LINK]);
});

test('a refusal is told with its cause, and the next click takes the link', async () => {
  const setting = world({ agents: { [PORT]: agent({ open: (id) => refusal(id, 'portal_unknown', { portal: PORTAL }) }) } });
  const { opener } = await opened(setting);
  const [name, ended] = setting.told.at(-1);
  assert.equal(name, 'ended');
  assert.equal(ended.outcome, 'refused');
  assert.equal(ended.cause.code, 'portal_unknown');
  assert.match(ended.cause.why, /portal\.test:8443 is not in the trust store/);
  assert.deepEqual(setting.navigated, []);
  const second = click();
  opener.open(second);
  assert.equal(second.prevented, false);
});

test('a cause that a page may not know becomes internal', async () => {
  const setting = world({ agents: { [PORT]: agent({ open: (id) => refusal(id, 'pcsc_no_service') }) } });
  await opened(setting);
  assert.equal(setting.told.at(-1)[1].cause.code, 'internal');
});

test('a double click hands the code over once', async () => {
  const there = agent();
  const setting = world({ agents: { [PORT]: there } });
  const { opener } = await prepared(setting);
  const [first, second] = [click(), click()];
  opener.open(first);
  opener.open(second);
  await setting.clock.advance(100);
  assert.deepEqual([first.prevented, second.prevented], [true, true]);
  assert.equal(there.sent.filter((frame) => frame.method === 'open').length, 1);
});

test('who took the code and stays mute gets no second one: the second click takes the link', async () => {
  const setting = world({ agents: { [PORT]: agent() } });
  const { opener } = await opened(setting);
  const second = click();
  opener.open(second);
  assert.equal(second.prevented, false);
  assert.deepEqual(setting.told.at(-1), ['path', { path: 'link', reason: 'agent_mute' }]);
});

test('a second click later on brings the code again, so that the window comes to the front', async () => {
  const there = agent();
  const setting = world({ agents: { [PORT]: there } });
  const { opener, socket } = await opened(setting);
  socket.notify('progress', { step: 'consent' });
  opener.open(click());
  await setting.clock.advance(100);
  assert.equal(there.sent.filter((frame) => frame.method === 'open').length, 2);
});

// --- after the code was taken -----------------------------------------------------------------------------

for (const [about, frame] of [
  ['an unknown step', { jsonrpc: '2.0', method: 'progress', params: { step: 'almost' } }],
  ['an unknown notification', { jsonrpc: '2.0', method: 'navigate', params: {} }],
  ['a method of Object', { jsonrpc: '2.0', method: 'constructor', params: {} }],
  ['a second answer', { jsonrpc: '2.0', id: 2, result: { accepted: true } }],
]) {
  test(`${about} ends the connection, not the order`, async () => {
    const setting = world({ agents: { [PORT]: agent() } });
    const { socket } = await opened(setting);
    socket.deliver(frame);
    assert.equal(socket.readyState, 3);
    assert.deepEqual(setting.told.at(-1), ['path', { path: 'portal', reason: 'agent_frame_invalid' }]);
    assert.deepEqual(setting.navigated, []);
  });
}

test('a socket that breaks after the code was taken: the portal goes on', async () => {
  const setting = world({ agents: { [PORT]: agent() } });
  const { socket } = await opened(setting);
  socket.drop();
  assert.deepEqual(setting.told.at(-1), ['path', { path: 'portal', reason: 'agent_closed' }]);
  assert.deepEqual(setting.navigated, []);
});

test('a completion that can not be handed over is said', async () => {
  const setting = world({ agents: { [PORT]: agent() } });
  setting.options.completion = async () => {
    throw new TypeError('Failed to fetch');
  };
  const { socket } = await opened(setting);
  socket.notify('completion', { completion: SECRET });
  await settled();
  const [name, cause] = setting.told.at(-1);
  assert.deepEqual([name, cause.code], ['trouble', 'portal_unreachable']);
  assert.ok(!JSON.stringify(setting.told).includes('Failed to fetch'));
});

test('cancelled by the person: the end names its cause', async () => {
  const setting = world({ agents: { [PORT]: agent() } });
  const { socket } = await opened(setting);
  socket.notify('ended', { outcome: 'undone', error: { error: 'user_cancelled' } });
  assert.deepEqual(setting.told.at(-1)[1].cause.code, 'user_cancelled');
  assert.equal(socket.readyState, 3);
});

test('whoever sits on the port puts no words of his own into the page', async () => {
  const setting = world({ agents: { [PORT]: agent() } });
  const { socket } = await opened(setting);
  const fields = { portal: 'evil.test', cause: 'log in again at evil.test', slot: '9A evil', seconds: 600 };
  socket.notify('ended', { outcome: 'undone', error: { error: 'portal_unreachable', fields } });
  const { cause } = setting.told.at(-1)[1];
  assert.equal(cause.code, 'portal_unreachable');
  assert.ok(!JSON.stringify(cause).includes('evil'));
  assert.match(cause.why, /No connection to portal\.test:8443: \?\./);
});

test('a closed opener tells nothing and takes nothing over', async () => {
  const setting = world({ agents: { [PORT]: agent() } });
  const { opener, socket } = await opened(setting);
  const before = setting.told.length;
  opener.close();
  socket.notify('progress', { step: 'keys' });
  const event = click();
  opener.open(event);
  assert.equal(event.prevented, false);
  assert.equal(setting.told.length, before);
});

test('closed while the code is on its way: nothing is followed', async () => {
  const setting = world({ agents: { [PORT]: agent({ open: () => undefined }) } });
  const { opener } = await opened(setting);
  opener.close();
  await setting.clock.advance(3000);
  assert.deepEqual(setting.navigated, []);
  assert.deepEqual(setting.told, []);
});

test('a fresh code is the one handed over', async () => {
  const there = agent();
  const setting = world({ agents: { [PORT]: there } });
  const { opener } = await prepared(setting);
  const code = 'B'.repeat(22);
  assert.throws(() => opener.renew(`inlay:${PORTAL}/`), TypeError);
  opener.renew(`inlay:${PORTAL}/${code}`);
  opener.open(click());
  await setting.clock.advance(100);
  assert.deepEqual(there.sent.at(-1).params, { portal: PORTAL, code });
});

test('the whole way: code taken, progress, completion, finished', async () => {
  const there = agent();
  const setting = world({ agents: { [PORT]: there } });
  const { event, socket } = await opened(setting);
  assert.equal(event.prevented, true);
  assert.deepEqual(there.sent.at(-1), { jsonrpc: '2.0', id: 2, method: 'open', params: { portal: PORTAL, code: CODE } });
  socket.notify('progress', { step: 'consent' });
  socket.notify('completion', { completion: SECRET });
  socket.notify('progress', { step: 'keys', key: { number: 2, of: 3 } });
  socket.notify('ended', { outcome: 'finished' });
  await settled();
  assert.deepEqual(setting.completed, [SECRET]);
  assert.deepEqual(setting.told, [
    ['path', { path: 'loopback', reason: 'accepted' }],
    ['progress', { step: 'consent' }],
    ['progress', { step: 'keys', key: { number: 2, of: 3 } }],
    ['ended', { outcome: 'finished', cause: null }],
  ]);
  assert.equal(setting.clock.pending, 0);
});
