// Listens to the monitor, and says so when it hears nothing.

import { at, say } from "./dom.js";
import * as f from "./format.js";
import * as lag from "./lag.js";
import * as objects from "./objects.js";
import * as tonight from "./tonight.js";

let last = null; // the last look
let heard = 0; // when it came, by our clock
let lost = null; // since when the monitor is silent, by our clock
let version = 0; // of what is shown of the catalogue
let reading = false;

function look(state) {
  last = state;
  heard = Date.now();
  lost = null;
  say(at("catalogue"), state.catalogue);
  lag.look(state);
  freshness();
  read(state.tonight);
}

// Reads what changed in the catalogue; while nobody looks at the page there is no hurry.
async function read(wanted) {
  if (reading || wanted === version || document.hidden) return;
  reading = true;
  try {
    const answer = await fetch("api/tonight.json");
    if (answer.ok) {
      const held = await answer.json();
      version = held.version;
      tonight.show(held);
      objects.newest(held.newest);
    }
  } catch { /* the next look tries again */ }
  reading = false;
}

function freshness() {
  const silent = lost ?? (last && Date.now() - heard > 3000 * last.every + 5000 ? heard : null);
  const away = last?.broker ?? last?.table;
  const old = silent !== null || Boolean(away);
  document.body.classList.toggle("old", old && Boolean(last));
  at("link").className = `dot ${silent !== null ? "bad" : last ? "good" : ""}`;
  let text = "";
  if (silent !== null) text = `The monitor has not been heard since ${f.clock(silent / 1000)}. The page keeps trying.`;
  else if (away) text = `${last.broker ? "The broker" : "The catalogue"} has not answered since ${f.clock(away.since)} (${f.seconds(Math.max(last.now - away.since, 0))}). ${last.at ? `What you see is of ${f.clock(last.at)}.` : ""} ${away.why}`;
  at("stale").hidden = !text;
  say(at("stale"), text);
}

function tick() {
  say(at("clock"), `${f.clock(Date.now() / 1000)} UTC`);
  freshness();
}

function listen() {
  const events = new EventSource("events");
  events.addEventListener("look", (event) => look(JSON.parse(event.data)));
  events.addEventListener("open", () => { lost = null; });
  events.addEventListener("error", () => {
    lost ??= Date.now();
    freshness();
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 3000); // an answer that was no stream: ask again
  });
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && last) look(last);
});
lag.start();
tonight.start();
objects.start();
tick();
setInterval(tick, 1000);
listen();
