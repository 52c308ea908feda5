// The clock, the one answer box, and Nym or Not one pair at a time. Without this file the pages work as plain forms.

const data = JSON.parse(document.getElementById("data").textContent);
const form = document.getElementById("round");
const csrf = form.elements.csrf.value;
const status = document.getElementById("status");
// The page's own clock starts with the first byte of the answer; the computer's date and time play no part.
const shown = performance.getEntriesByType("navigation")[0]?.responseStart || performance.now();
const before = data.remaining_ms === null ? 0 : data.seconds * 1000 - data.remaining_ms;
const elapsed = () => Math.round(before + performance.now() - shown);

let over = false;
const pending = new Set();

function say(text) {
  status.textContent = text;
}

function sendAlong(name, value) {
  const field = document.createElement("input");
  Object.assign(field, { type: "hidden", name, value });
  form.append(field);
}

// Every way to the end leads here, once: Done, the last pair, the clock.
async function finish(prepare) {
  if (over) return;
  over = true;
  document.getElementById("done").setAttribute("aria-disabled", "true");
  const soon = new Promise((resolve) => setTimeout(resolve, 800));
  await Promise.race([Promise.allSettled([...pending]), soon]);
  prepare();
  form.submit();
}

function startClock(atEnd) {
  if (data.remaining_ms === null) return;
  const deadline = shown + data.remaining_ms;
  const bar = document.getElementById("bar");
  const seconds = document.getElementById("seconds");
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const announced = new Set();
  let last = null;
  document.getElementById("clock").classList.remove("waiting");

  function tick() {
    const left = Math.max(0, deadline - performance.now());
    const whole = Math.ceil(left / 1000);
    if (whole !== last) {
      last = whole;
      seconds.textContent = whole;
      seconds.classList.toggle("near", whole <= 5);
      if (still) bar.value = whole * 1000;
      for (const mark of [10, 5]) {
        if (whole <= mark && whole > mark - 2 && data.seconds > mark && !announced.has(mark)) {
          announced.add(mark);
          say(`${mark} seconds`);
        }
      }
    }
    if (!still) bar.value = left;
    if (left > 0 && !over) return;
    clearInterval(timer);
    if (!over) {
      say("time is up");
      atEnd();
    }
  }

  const timer = setInterval(tick, 50);
  tick();
}

function startAnswers() {
  const box = document.getElementById("answer");
  const add = document.getElementById("add");
  const list = document.getElementById("entered");
  const unsent = new Map();
  const places = new Map();
  let seq = data.next_seq;
  let pasted = false;

  add.hidden = false;
  add.disabled = false;
  document.getElementById("how-to-add").hidden = false;
  for (const item of list.children) addRemove(item, Number(item.dataset.seq));

  function post(body) {
    const sent = fetch(data.answers_url, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json", "X-CSRF-Token": csrf },
      body: JSON.stringify(body),
      keepalive: true,
    });
    pending.add(sent);
    return sent.finally(() => pending.delete(sent));
  }

  async function enter() {
    const text = box.value.trim();
    if (!text || over) return;
    if (seq >= data.max_answers) return say("that is the most that one round takes");
    const answer = { seq: seq++, text, ms: elapsed(), pasted };
    box.value = "";
    pasted = false;
    const item = show(answer);
    unsent.set(answer.seq, text);
    try {
      const reply = await post(answer);
      if (!reply.ok) return;
      unsent.delete(answer.seq);
      const taken = await reply.json();
      const place = taken.seq ?? answer.seq; // another window may have used this number
      places.set(answer.seq, place);
      seq = Math.max(seq, place + 1);
      mark(item, text, taken.status);
    } catch {
      // It stays unsent, and goes along with Done.
    }
  }

  function show(answer) {
    const item = document.createElement("li");
    const text = document.createElement("bdi");
    text.textContent = answer.text;
    item.append(text);
    addRemove(item, answer.seq);
    list.append(item);
    say(`${answer.text} added`);
    countAnswers();
    return item;
  }

  function mark(item, text, result) {
    const reason = Object.hasOwn(data.reasons, result) ? data.reasons[result] : "";
    if (!reason) return;
    const note = document.createElement("small");
    note.textContent = reason;
    item.classList.add("off");
    item.querySelector("bdi").after(note);
    say(`${text}: ${reason}`);
  }

  function addRemove(item, number) {
    const button = document.createElement("button");
    const text = item.querySelector("bdi").textContent;
    button.type = "button";
    button.textContent = "×";
    button.setAttribute("aria-label", `Remove ${text}`);
    button.addEventListener("click", () => remove(item, number, text));
    item.classList.remove("said");
    item.append(button);
  }

  function remove(item, number, text) {
    if (over) return;
    unsent.delete(number);
    post({ seq: places.get(number) ?? number, remove: true }).catch(() => say(`${text} could not be removed`));
    item.remove();
    box.focus();
    say(`${text} removed`);
    countAnswers();
  }

  function countAnswers() {
    const skip = document.getElementById("skip");
    if (skip) skip.hidden = list.children.length > 0;
  }

  // What the server has not acknowledged goes along as plain fields; what is in the box does so by itself.
  function takeAlong() {
    for (const text of unsent.values()) sendAlong("text", text);
  }

  box.addEventListener("input", (event) => {
    if (event.inputType === "insertFromPaste" || event.inputType === "insertFromDrop") pasted = true;
    if (!box.value) pasted = false;
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (event.submitter?.id === "done") finish(takeAlong);
    else enter();
  });
  startClock(() => finish(takeAlong));
}

function startJudging() {
  const widget = document.getElementById("judge");
  const pairs = [...document.querySelectorAll(".pair")];
  const candidate = document.getElementById("candidate");
  const letters = document.getElementById("letters");
  const keys = { y: "yes", n: "no", u: "unsure", z: "undo" };
  let place = 0;
  let since = elapsed();

  document.getElementById("pairs").hidden = true;
  widget.hidden = false;
  widget.querySelector("button").focus();

  function show() {
    candidate.replaceChildren(...pairs[place].querySelector("legend").cloneNode(true).childNodes);
    document.getElementById("place").textContent = place + 1;
    document.getElementById("undo").disabled = place === 0;
    since = elapsed();
  }

  function judge(verdict) {
    if (over) return;
    const pair = pairs[place];
    pair.querySelector(`[value=${verdict}]`).checked = true;
    form.elements[`ms_${pair.dataset.seq}`]?.remove();
    sendAlong(`ms_${pair.dataset.seq}`, elapsed() - since);
    place += 1;
    if (place < pairs.length) show();
    else finish(() => {});
  }

  function undo() {
    if (over || place === 0) return;
    place -= 1;
    for (const choice of pairs[place].querySelectorAll("input")) choice.checked = false;
    form.elements[`ms_${pairs[place].dataset.seq}`]?.remove();
    const wasFocused = document.activeElement?.id === "undo";
    show();
    if (wasFocused && place === 0) widget.querySelector("button").focus();
  }

  widget.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.id === "undo") undo();
    else if (button) judge(button.dataset.verdict);
  });
  widget.addEventListener("keydown", (event) => {
    const act = keys[event.key.toLowerCase()];
    if (!act || !letters.checked || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (act === "undo") undo();
    else judge(act);
  });
  letters.addEventListener("change", () => widget.classList.toggle("keys-off", !letters.checked));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    finish(() => {});
  });
  show();
  startClock(() => finish(() => {}));
}

// A page that comes back from the browser's memory has a clock that stood still: ask the server.
addEventListener("pageshow", (event) => event.persisted && location.reload());

if (document.getElementById("judge")) startJudging();
else startAnswers();
