import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createSilenceWatch, POSSIBILITIES, SILENCE_MILLISECONDS } from '../../../protocol/js/inlay.js';
import { world } from './fakes.mjs';

function watched() {
  const setting = world();
  const lists = [];
  const watch = createSilenceWatch({ onSilence: (list) => lists.push(list), environment: setting.environment });
  return { ...setting, watch, lists, page: setting.environment.document };
}

test('nothing is said before a click', async () => {
  const { clock, lists } = watched();
  await clock.advance(60_000);
  assert.deepEqual(lists, []);
});

test('a claim in time: nothing is said', async () => {
  const { clock, lists, watch } = watched();
  watch.clicked();
  await clock.advance(SILENCE_MILLISECONDS - 1);
  watch.claimed();
  await clock.advance(60_000);
  assert.deepEqual(lists, []);
});

test('time does not run while the page is hidden', async () => {
  const { clock, lists, watch, page } = watched();
  watch.clicked();
  page.show('hidden');
  await clock.advance(60_000);
  assert.deepEqual(lists, []);
  page.show('visible');
  await clock.advance(SILENCE_MILLISECONDS);
  assert.equal(lists.length, 1);
});

test('closed: no listener and no timer is left', async () => {
  const { clock, lists, watch, page } = watched();
  watch.clicked();
  watch.close();
  assert.equal(page.listeners.size, 0);
  assert.equal(clock.pending, 0);
  await clock.advance(60_000);
  assert.deepEqual(lists, []);
});

test('silence lists the possibilities once for each click, each with a next step', async () => {
  const { clock, lists, watch } = watched();
  watch.clicked();
  await clock.advance(60_000);
  assert.deepEqual(lists, [POSSIBILITIES]);
  assert.ok(POSSIBILITIES.every((row) => row.what && row.next_step));
  assert.equal(POSSIBILITIES.at(-1).name, 'browser_confined'); // the typed code comes last
  watch.clicked();
  await clock.advance(SILENCE_MILLISECONDS);
  assert.equal(lists.length, 2);
});
