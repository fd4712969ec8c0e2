// Reads a file in the browser, so that none is uploaded. What is too large is neither read nor pasted.
const limit = Number(element.querySelector('input').dataset.limit);
const explain = (what) => `the ${what} has more than ${limit.toLocaleString('en')} bytes, the most that this page ` +
  'takes. The command eqxesm predict has no such limit.';

async function read(file) {
  if (file.size > limit) throw new Error(explain('file'));
  let bytes = new Uint8Array(await file.arrayBuffer());
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) bytes = await unpack(bytes);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder('windows-1252').decode(bytes);
  }
}

async function unpack(bytes) {
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip')).getReader();
  const parts = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read().catch(() => {
      throw new Error('the gzip data of the file are corrupt or cut short');
    });
    if (done) break;
    size += value.length;
    if (size > limit) {
      await reader.cancel();
      throw new Error(explain('file'));
    }
    parts.push(value);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

element.addEventListener('change', async (event) => {
  const file = event.target.files && event.target.files[0];
  if (!file) return;
  let text = '', refusal = '';
  try {
    text = await read(file);
    if (!text.trim()) throw new Error('the file is empty');
  } catch (error) {
    refusal = error.message;
  }
  tell(text, refusal);
  event.target.value = '';
});

function tell(text, refusal) {
  props.value = { text, refusal };
  trigger('picked');
}

// A browser would stand still over some megabytes in a box.
const part = (node) => node.closest('[role="tabpanel"]');
document.addEventListener('paste', (event) => {
  const text = (event.clipboardData && event.clipboardData.getData('text')) || '';
  if (text.length > limit && event.target.closest && part(event.target) === part(element)) {
    event.preventDefault();
    event.stopPropagation();
    tell('', explain('text'));
  }
}, true);
