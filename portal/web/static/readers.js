// Readers and cards of this computer, as Inlay tells them over the loopback socket while the page is open.
//
// Where Inlay can't be asked directly, the page says so and stays as useful as it was: Inlay's window shows the rest.

import { browserEnvironment, checkComputer, watchReaders } from './inlay/inlay.js';

const panel = document.getElementById('readers');
const at = (name) => document.getElementById(`readers-${name}`);
const without = at('said').textContent; // what the portal's page says by itself
const button = at('again').querySelector('button');

const AGAIN_SECONDS = [1, 2, 4, 8, 15, 30]; // an agent that starts anew, and a busy machine, come back by themselves
let tried = 0;
let timer = null;
let watch = null;
let ask = false; // the person has agreed that the browser asks
let refusal = null; // what the portal said when it gave no ticket

const REASONS = {
  permission_prompt: ['Your browser has not been asked yet whether this page may talk to Inlay.', 'Show readers'],
  permission_denied: ['Your browser does not let this page talk to Inlay. Allow it in the settings of this page.', ''],
  no_agent: ['Inlay does not answer on this computer. It may not run yet: it starts with its first link.', 'Look again'],
  no_ticket: ['The portal gave no leave to ask Inlay. You may be logged out: load the page again.', ''],
};
const LOST = ['Inlay has stopped answering. The page looks for it again.', 'Look again'];

/** A ticket to read, asked for as this page's own forms are sent. */
async function ticket() {
  const answer = await fetch('/ticket', {
    method: 'POST',
    body: new URLSearchParams({ [panel.dataset.csrfField]: panel.dataset.csrf }),
    headers: { Accept: 'application/json' },
    credentials: 'same-origin',
  });
  if (!answer.ok) {
    refusal = answer.status === 429 ? (await answer.json()).error : null;
    throw new Error('ticket');
  }
  refusal = null;
  return (await answer.json()).ticket;
}

function say(text) {
  if (at('said').textContent !== text) at('said').textContent = text;
}

/** What is in a reader: state for the eye, words, and what to do where something is the matter. */
function standing({ card_present: present, mute, exclusive }) {
  if (!present) return { state: 'Empty', kind: 'none', text: '' };
  if (mute) {
    const text = 'The card does not answer. Take it out, see that it is the right way round and clean, and put it in again.';
    return { state: 'Silent card', kind: 'failed', text };
  }
  if (exclusive) {
    const text = 'Another program keeps the card for itself. Close it, or wait until it has finished.';
    return { state: 'Card in use', kind: 'pending', text };
  }
  return { state: 'Card', kind: 'active', text: '' };
}

function summary(readers, service) {
  if (!service) {
    return (
      'No program can see smart cards on this computer: its PC/SC service does not answer. ' +
      'Ask your support, or run inlay doctor: it says what to do. The page goes on by itself when the service is back.'
    );
  }
  if (readers.length === 0) return 'Inlay sees no card reader. Plug one in: it appears here.';
  const cards = readers.filter((reader) => reader.card_present).length;
  const where = readers.length === 1 ? 'the reader' : `${readers.length} readers`;
  if (cards === 0) return `No card is in ${where}. Put one in: it appears here.`;
  return cards === 1 ? `A card is in ${where === 'the reader' ? where : `one of ${where}`}.` : `Cards are in ${cards} of ${where}.`;
}

function row(reader) {
  const { state, kind, text } = standing(reader);
  const item = document.createElement('li');
  item.dataset.reader = reader.name;
  const name = document.createElement('span');
  name.className = 'grow';
  name.textContent = reader.name;
  if (text) {
    const detail = document.createElement('span');
    detail.className = 'detail';
    detail.textContent = text;
    name.append(detail);
  }
  const mark = document.createElement('span');
  mark.className = `state state-${kind}`;
  mark.textContent = state;
  item.append(name, mark);
  return item;
}

// --- the doctor's findings, on the page that checks the computer ------------------------------------------------

let checking = false;
let stale = false;

/** Look again after each change: one look at a time, and none of a state that has passed. */
async function check() {
  if (!('checks' in panel.dataset)) return;
  stale = true;
  if (checking) return;
  checking = true;
  while (stale) {
    stale = false;
    const findings = await checkComputer({ ticket });
    if (!stale) showFindings(findings ?? []);
  }
  checking = false;
}

function showFindings(findings) {
  const about = (finding) => finding.reader && [...at('list').children].find((item) => item.dataset.reader === finding.reader);
  for (const old of panel.querySelectorAll('.finding')) old.remove();
  for (const finding of findings) {
    const item = about(finding);
    const line = document.createElement(item ? 'span' : 'li');
    line.className = `finding detail finding-${finding.level}`;
    line.dataset.code = finding.code;
    line.textContent = `${finding.happened} ${finding.nextStep}`.trim();
    (item ? item.querySelector('.grow') : at('findings')).append(line);
  }
  at('findings').hidden = at('findings').children.length === 0;
}

/** The button goes as soon as it isn't needed; the keyboard is at the list's heading, not nowhere, if it was there. */
function hideButton() {
  const held = document.activeElement === button;
  at('again').hidden = true;
  if (held) at('title').focus();
}

function show({ readers, service }) {
  tried = 0;
  panel.dataset.readers = service ? 'live' : 'no-service';
  hideButton();
  say(summary(readers, service));
  at('list').replaceChildren(...readers.map(row));
  at('list').hidden = readers.length === 0;
  void check();
}

function ended({ reason, cause }) {
  watch = null;
  panel.dataset.readers = reason;
  const limited = reason === 'no_ticket' && refusal !== null;
  const [text, words] = limited ? [`${refusal.happened} ${refusal.why} ${refusal.next_step}`, 'Look again'] : REASONS[reason] ?? LOST;
  say(`${cause ? `${cause.happened} ${cause.why} ${cause.nextStep}` : text} ${without}`);
  for (const list of [at('list'), at('findings')]) {
    list.replaceChildren();
    list.hidden = true;
  }
  if (words) button.textContent = words;
  if (words) at('again').hidden = false;
  else hideButton();
  const comesBack = reason === 'no_agent' || (reason.startsWith('agent_') && reason !== 'agent_blocked');
  if (comesBack && tried < AGAIN_SECONDS.length) {
    timer = setTimeout(begin, 1000 * AGAIN_SECONDS[tried]);
    tried += 1;
  }
}

function begin() {
  clearTimeout(timer);
  timer = null;
  watch?.close();
  watch = watchReaders({ ticket, onReaders: show, onEnded: ended, environment: browserEnvironment(), ask });
}

button.addEventListener('click', () => {
  ask = true;
  tried = 0;
  say('Looking for Inlay.');
  begin();
});
// Who comes back to the page from Inlay's window, or logs in to the computer again, finds it as it is now.
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'hidden' || watch !== null || !/^(agent_|no_agent$)/.test(panel.dataset.readers ?? '')) return;
  tried = 0;
  begin();
});
// Inlay has just taken the page's order, so it runs now.
document.addEventListener('inlay-runs', () => {
  if (watch !== null) return;
  tried = 0;
  begin();
});
begin();
