// The page of a process at which letters are printed: how often each was, as the portal says, until that is over.

const list = document.getElementById('letters');
const address = list.dataset.process;

function show({ kind, standing, verb, left }) {
  const row = [...list.children].find((item) => item.dataset.kind === kind);
  if (!row) return;
  const detail = row.querySelector('.detail');
  if (detail.textContent !== standing) detail.textContent = standing;
  const form = row.querySelector('form');
  if (!form) return;
  form.querySelector('.verb').textContent = verb;
  form.hidden = left === 0;
}

const stream = new EventSource(`${address}/letters`);
stream.addEventListener('letters', ({ data }) => JSON.parse(data).forEach(show));
stream.addEventListener('end', () => {
  stream.close();
  // they are said to be printed, or the session is over: the portal's page says which, and has the keyboard
  location.replace(`${address}${location.search === '?on' ? '' : '?on'}#content`);
});
