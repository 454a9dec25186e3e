// What to do when nothing seems to happen after the click: say so, go on waiting.

import { POSSIBILITIES } from './tables.js';

/** How long a page that can be seen waits for a sign, in milliseconds, before it lists what may be the matter. */
export const SILENCE_MILLISECONDS = 8000;

/**
 * Watch for silence after a click. It is not a failure: the page goes on waiting, and `claimed` may still come.
 *
 * Time runs only while the page can be seen: behind another window (Inlay's, most likely) nobody reads a list.
 *
 * @param {{onSilence: (possibilities: readonly object[]) => void, environment: import('./inlay.d.ts').Environment,
 *   milliseconds?: number}} options
 * @returns {{clicked(): void, claimed(): void, close(): void}}
 */
export function createSilenceWatch({ onSilence, environment, milliseconds = SILENCE_MILLISECONDS }) {
  const page = environment.document;
  let waiting = false;
  let timer = null;

  function stop() {
    if (timer !== null) environment.clearTimeout(timer);
    timer = null;
  }
  function start() {
    stop();
    if (!waiting || page.visibilityState === 'hidden') return;
    timer = environment.setTimeout(() => {
      timer = null;
      waiting = false;
      onSilence(POSSIBILITIES);
    }, milliseconds);
  }
  page.addEventListener('visibilitychange', start);
  return {
    clicked() {
      waiting = true;
      start();
    },
    claimed() {
      waiting = false;
      stop();
    },
    close() {
      waiting = false;
      stop();
      page.removeEventListener('visibilitychange', start);
    },
  };
}
