"use strict";
// Keeps the page up to date, and sends forms without leaving it.

const find = (selector, root = document) => root.querySelector(selector);
const findAll = (selector, root = document) => root.querySelectorAll(selector);

async function refresh() {
  const live = find("#live");
  try {
    const answer = await fetch(document.body.dataset.status);
    show(await answer.json());
    live.textContent = "live";
    live.className = "on";
  } catch {
    live.textContent = "server stopped";
    live.className = "off";
  }
}

function show({ jobs, runs, mails }) {
  find("#mails").textContent = mails || "";
  const inbox = find("#inbox");
  if (inbox && Number(inbox.dataset.count) !== mails) location.reload();

  for (const card of findAll("[data-job]")) {
    for (const number of findAll("[data-count]", card)) {
      const count = jobs[card.dataset.job][number.dataset.count];
      number.textContent = count;
      number.className = count ? number.dataset.count : "";
    }
  }

  const table = find("#runs");
  if (!table) return;
  for (const run of runs.reverse()) {
    let row = document.getElementById(run.id);
    if (!row) {
      row = find("#row").content.firstElementChild.cloneNode(true);
      row.id = run.id;
      table.prepend(row);
    }
    update(row, run);
  }
  const shown = new Set(runs.map((run) => run.id));
  for (const row of [...table.children]) if (!shown.has(row.id)) row.remove();
}

function update(row, run) {
  if (row.dataset.done) return;
  row.dataset.done = run.state.match(/^(succeeded|failed|discarded|cancelled)$/) ? "yes" : "";
  find(".id", row).textContent = run.id;
  find(".job", row).textContent = run.job;
  find(".state", row).textContent = run.state;
  find(".state", row).className = `state ${run.state}`;
  find(".attempt", row).textContent = run.attempt || "";
  find(".seconds", row).textContent = run.seconds.toFixed(2);
  find(".outcome", row).textContent = run.outcome ?? "";
  if (run.picture) {
    const image = new Image();
    image.src = run.picture;
    image.alt = "The thumbnail";
    find(".outcome", row).replaceChildren(image);
  }
}

async function send(event) {
  event.preventDefault();
  const form = event.target;
  const output = find("output", form);
  const start = performance.now();
  try {
    const answer = await fetch(event.submitter.getAttribute("formaction") ?? form.action, {
      method: "POST",
      body: new FormData(form),
      redirect: "manual", // where it leads to is this page
    });
    const took = Math.max(1, Math.round(performance.now() - start));
    const accepted = answer.type === "opaqueredirect";
    output.textContent = accepted ? `Answered in ${took} ms` : `Refused: ${answer.status} ${answer.statusText}`;
  } catch {
    output.textContent = "The server does not answer";
  }
  refresh();
}

for (const form of findAll("form")) form.addEventListener("submit", send);
setInterval(() => document.hidden || refresh(), 500);
refresh();
