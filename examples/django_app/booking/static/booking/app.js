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

function show({ stats, mails, ...tables }) {
  find("#mails").textContent = mails || "";
  const inbox = find("#inbox");
  if (inbox && Number(inbox.dataset.count) !== mails) location.reload();

  for (const card of findAll("[data-job]")) {
    for (const number of findAll("[data-count]", card)) {
      const count = stats[card.dataset.job]?.[number.dataset.count] ?? 0;
      number.textContent = count;
      number.className = count ? number.dataset.count : "";
    }
  }
  for (const table of findAll("[data-rows]")) fill(table, tables[table.dataset.rows]);
}

function fill(table, rows) {
  for (const values of rows.reverse()) {
    let row = document.getElementById(values.id);
    if (!row) {
      row = find("template", table.parentElement).content.firstElementChild.cloneNode(true);
      row.id = values.id;
      table.prepend(row);
    }
    for (const cell of findAll("[data-cell]", row)) {
      const value = values[cell.dataset.cell];
      const text = cell.dataset.cell === "seconds" ? value.toFixed(2) : String(value || "");
      if (cell.textContent !== text) cell.textContent = text;
      if (cell.matches(".state")) cell.className = `state ${value}`;
    }
  }
  const shown = new Set(rows.map((values) => values.id));
  for (const row of [...table.children]) if (!shown.has(row.id)) row.remove();
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
    const plain = answer.headers.get("Content-Type")?.startsWith("text/plain") ? await answer.text() : "";
    if (answer.type === "opaqueredirect") output.textContent = `Answered in ${took} ms`;
    else if (answer.ok) output.textContent = `${plain}, answered in ${took} ms`;
    else output.textContent = plain || `Refused: ${answer.status} ${answer.statusText}`;
  } catch {
    output.textContent = "The server does not answer";
  }
  refresh();
}

for (const form of findAll("form")) form.addEventListener("submit", send);
setInterval(() => document.hidden || refresh(), 500);
refresh();
