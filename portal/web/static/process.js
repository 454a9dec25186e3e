// The page of the step "open": hands the code to Inlay, follows the order, moves on by itself when it ends.

import { browserEnvironment, createOpener, createSilenceWatch } from './inlay/inlay.js';

const order = document.getElementById('order');
const at = (id) => document.getElementById(id);
const address = order.dataset.process;
let expires = { link: Number(order.dataset.linkExpires), typed: Number(order.dataset.typedExpires) };
let claimed = !at('open');

/** Send a form as this page's own forms are sent. Throws what the portal says when it refuses. */
async function send(path, fields) {
  const body = new URLSearchParams({ [order.dataset.csrfField]: order.dataset.csrf, ...fields });
  const answer = await fetch(`${address}/${path}`, {
    method: 'POST',
    body,
    headers: { Accept: 'application/json' },
    credentials: 'same-origin',
  });
  const value = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(value.error.error), { refusal: value.error });
  return value;
}

/** What the portal answers to a question about this process. Throws when it refuses. */
async function ask(path) {
  const answer = await fetch(`${address}/${path}`, {
    headers: { Accept: 'application/json' },
    credentials: 'same-origin',
  });
  if (!answer.ok) throw new Error(path);
  return answer.json();
}

function say(text) {
  if (at('said').textContent !== text) at('said').textContent = text;
}

function sayTrouble({ happened, why, next_step, nextStep = next_step }) {
  at('trouble').textContent = `${happened} ${why} ${nextStep}`;
  at('trouble').hidden = false;
}

function sayUnreachable() {
  sayTrouble({
    happened: 'The portal did not answer.',
    why: 'The network or the portal is down for the moment.',
    nextStep: 'The page keeps trying; nothing is lost.',
  });
}

/**
 * The portal is asked anew, and shows where the process stands: the keyboard is at the beginning of what it says.
 * The query alone makes it another page: where nothing but the part differs, a browser asks nobody.
 */
function moveOn() {
  location.replace(`${address}${location.search === '?on' ? '' : '?on'}#content`);
}

/** Hide parts of the page. The keyboard is where it goes on, not nowhere, if it was in one of them. */
function hide(...names) {
  const parts = names.map(at).filter((part) => part);
  const held = parts.some((part) => part.contains(document.activeElement));
  for (const part of parts) part.hidden = true;
  if (held) at('progress-title').focus();
}

// --- progress -----------------------------------------------------------------------------------------------

let counted = 0; // of the keys that a card makes, the one it is at

function showStep(name, key) {
  const steps = [...at('progress').children];
  const now = steps.findIndex((step) => step.dataset.step === name);
  if (now < steps.findIndex((step) => step.className === 'now')) return; // two sources tell; the later step counts
  steps.forEach((step, index) => {
    step.className = index < now ? 'past' : index === now ? 'now' : 'ahead';
  });
  if (key && key.number < counted) return;
  counted = key ? key.number : counted;
  if (now >= 0) say(steps[now].dataset.text + (key ? ` Key ${key.number} of ${key.of}.` : ''));
}

function showOrder(event) {
  at('trouble').hidden = true;
  void showCancelEffect();
  if (event.state === 'finished' || event.state === 'undone') {
    say(event.state === 'finished' ? 'Done.' : 'The order has ended.');
    stream.close();
    moveOn();
    return;
  }
  if (event.state === 'waiting') return;
  if (!claimed) {
    claimed = true;
    silence?.claimed();
    hide('hero', 'silence', 'last-way');
    say('Inlay has the order.');
    document.dispatchEvent(new Event('inlay-runs')); // for the page's list of readers
  }
  if (event.step) showStep(event.step, event.key);
  showNumber(event);
}

function showNumber({ number_wanted: wanted, tries_left: left }) {
  const appears = wanted && at('number').hidden;
  if (wanted) at('number').hidden = false;
  else hide('number');
  if (wanted && typeof left === 'number') sayTries(left);
  if (appears) at('number-field').focus();
}

let told = null; // tries left, as the page says it

/** The order's own news of the same try doesn't take away what was said of it. */
function sayTries(left, prefix = '') {
  if (left === told && !prefix) return;
  told = left;
  at('number-said').textContent = `${prefix}${left} ${left === 1 ? 'try' : 'tries'} left.`;
}

// --- cancel: what it does changes while the card is worked on ---------------------------------------------------

const cancel = document.querySelector('details.cancel');

async function showCancelEffect() {
  if (!cancel?.open) return;
  try {
    const { effect } = await ask('cancel');
    const text = cancel.querySelector('p');
    if (text.textContent !== effect) text.textContent = effect;
  } catch {
    // the portal isn't reached, which is said elsewhere, or there is nothing to cancel any more, which it says then
  }
}

cancel?.addEventListener('toggle', () => void showCancelEffect());

const stream = new EventSource(`${address}/events`);
stream.addEventListener('order', ({ data }) => showOrder(JSON.parse(data)));
stream.addEventListener('end', () => stream.close());
stream.addEventListener('error', () => {
  // A browser connects again by itself unless it was refused; then the portal's page says why.
  if (stream.readyState === EventSource.CLOSED) moveOn();
  else sayUnreachable();
});
stream.addEventListener('open', () => {
  at('trouble').hidden = true;
});

// --- the number -----------------------------------------------------------------------------------------------

at('number-form').addEventListener('submit', async (event) => {
  event.preventDefault();
  const [input, button] = [at('number-field'), event.target.querySelector('button')];
  if (button.disabled) return;
  button.disabled = true;
  try {
    const { accepted, tries_left: left } = await send('number', { number: input.value });
    if (accepted) {
      hide('number');
    } else {
      sayTries(left, 'That is not the number. ');
      input.value = '';
      input.focus();
    }
  } catch (error) {
    if (error.refusal) moveOn(); // the third wrong one, or no number is wanted any more: the portal's page says so
    else sayUnreachable();
  } finally {
    button.disabled = false;
  }
});

// --- the link, and the direct way -----------------------------------------------------------------------------

const SEARCHES = 3; // of an Inlay that was there a moment ago, on a machine that is busy
let opener = null;
let silence = null;

function showCode(fresh) {
  expires = { link: fresh.link_expires_at, typed: fresh.typed_expires_at };
  at('open').href = fresh.link;
  opener.renew(fresh.link);
  at('typed-code').textContent = fresh.typed_code;
  showUntil();
}

function showUntil() {
  const until = new Date(expires.typed * 1000);
  at('typed-until').dateTime = until.toISOString();
  at('typed-until').textContent = until.toLocaleTimeString();
}

const expired = (time) => time * 1000 <= Date.now();

async function renew() {
  try {
    showCode(await send('code', {}));
    return true;
  } catch (error) {
    if (error.refusal) moveOn();
    else sayUnreachable();
    return false;
  }
}

if (!claimed) {
  const environment = browserEnvironment();
  opener = createOpener({
    link: at('open').getAttribute('href'),
    environment,
    completion: (secret) => send('completion', { completion: secret }),
    onPath: ({ path }) => {
      order.dataset.path = path;
      if (path !== 'portal') say(path === 'loopback' ? 'Inlay opens.' : 'Your browser opens Inlay.');
    },
    onProgress: ({ step, key }) => showStep(step, key),
    onTrouble: sayTrouble,
    onEnded: ({ cause }) => {
      // What the portal knows too, it shows when its own event comes; a refusal it may never hear of.
      if (cause) sayTrouble(cause);
    },
  });
  silence = createSilenceWatch({
    environment,
    onSilence: () => {
      at('silence').hidden = false;
      at('last-way').open = true;
      say('Inlay has not answered yet. Below is what may be the matter.');
    },
  });
  at('open').addEventListener('click', async (event) => {
    hide('silence');
    silence.clicked();
    if (!expired(expires.link)) {
      opener.open(event);
      return;
    }
    event.preventDefault();
    if (await renew()) {
      let taken = false;
      opener.open({ preventDefault: () => (taken = true) });
      if (!taken) location.assign(at('open').href);
    }
  });
  at('fresh').addEventListener('submit', (event) => {
    event.preventDefault();
    void renew();
  });
  showUntil();
  void search();
}

/** Look for Inlay. One of several cards: who has opened Inlay for the first need not for each, where the page can. */
async function search() {
  const goesOn = 'goesOn' in order.dataset;
  let path = await opener.prepare();
  for (let again = 0; goesOn && path !== 'loopback' && again < SEARCHES; again += 1) path = await opener.prepare();
  order.dataset.found = path;
  if (!goesOn || claimed) return;
  if (path === 'loopback') at('open').click();
  else at('open').focus();
}
