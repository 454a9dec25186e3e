import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';

import { createOpener, parseLink, PORTS } from '../../../protocol/js/inlay.js';
import { FrameError, readFrame } from '../../../protocol/js/frames.js';
import { checker } from './schema_check.mjs';
import { world } from './fakes.mjs';

const root = new URL('../../../protocol/', import.meta.url);
const read = (path) => JSON.parse(readFileSync(new URL(path, root), 'utf8'));
const all = (folder) => readdirSync(new URL(`examples/${folder}/`, root)).map((name) => [name, read(`examples/${folder}/${name}`)]);
const fault = checker(read('schema/inlay.schema.json'));

// Python's decoder looks for these in the text; the page takes frames from its own machine and does not.
const PYTHON_ALONE = new Set(['frame.repeated-key.json', 'frame.too-deep.json']);

for (const [name, example] of all('invalid')) {
  if ('text' in example) {
    if (!PYTHON_ALONE.has(name)) {
      test(`invalid: ${name}: ${example.about}`, () => assert.throws(() => readFrame(example.text), FrameError));
    }
    continue;
  }
  test(`invalid: ${name}: ${example.about}`, () => {
    assert.equal(fault(example.type, example.value), example.error.path);
  });
}

for (const [name, example] of all('valid')) {
  test(`valid: ${name}: ${example.about}`, () => assert.equal(fault(example.type, example.value), null));
}

// What an agent may tell a page, held against the page's own reader.
const NOTIFICATIONS = { ProgressParams: 'progress', CompletionParams: 'completion', EndedParams: 'ended' };
for (const folder of ['invalid', 'valid']) {
  for (const [name, example] of all(folder).filter(([, { type }]) => type in NOTIFICATIONS)) {
    test(`page reads ${folder} ${name}`, () => {
      const text = JSON.stringify({ jsonrpc: '2.0', method: NOTIFICATIONS[example.type], params: example.value });
      if (folder === 'valid') assert.deepEqual(readFrame(text).params, example.value);
      else assert.throws(() => readFrame(text), { path: example.error.path.replace('$', '$.params') });
    });
  }
}

const links = read('examples/links.json');
for (const { about, link, error } of links.invalid) {
  test(`link: ${about}: refused`, () => {
    assert.throws(() => parseLink(link), { code: error });
    assert.throws(() => createOpener({ ...world().options, link }), TypeError);
  });
}
for (const { about, link, portal, code } of links.valid) {
  test(`link: ${about}: taken`, () => assert.deepEqual(parseLink(link), { link, portal, code }));
}

test('the types name everything the module exports', async () => {
  const module = await import('../../../protocol/js/inlay.js');
  const types = readFileSync(new URL('js/inlay.d.ts', root), 'utf8');
  for (const name of Object.keys(module)) assert.match(types, new RegExp(`export (const|function|class) ${name}\\b|export \\{[^}]*\\b${name}\\b`));
  assert.equal(PORTS.length, 8);
});

test('nothing evaluates text, writes HTML or logs', () => {
  for (const name of readdirSync(new URL('js/', root)).filter((name) => name.endsWith('.js'))) {
    const source = readFileSync(new URL(`js/${name}`, root), 'utf8');
    assert.doesNotMatch(source, /\beval\b|new Function|innerHTML|insertAdjacentHTML|document\.write|console\./, name);
  }
});
