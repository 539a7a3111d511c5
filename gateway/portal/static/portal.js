// What the pages do beside being read: ages, copying, live rows, keys, choosing, verifying, plots. No page needs it to be read.
"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const say = (text) => { document.getElementById("said").textContent = text; };
  document.documentElement.classList.add("js");

  // Ages
  const ages = [[60, 1, "s"], [3600, 60, "min"], [86400, 3600, "h"], [Infinity, 86400, "d"]];
  const narrow = window.matchMedia("(max-width: 48rem)");
  const age = (at) => {
    const seconds = (Date.now() - Date.parse(at)) / 1000;
    if (seconds < 0 && seconds > -1) return "now";
    const [, unit, name] = ages.find(([limit]) => Math.abs(seconds) < limit);
    const count = Math.floor(Math.abs(seconds) / unit);
    return seconds < 0 ? `in ${count} ${name}` : `${count} ${name}${narrow.matches ? "" : " ago"}`;
  };
  const tell = (within = document) => all("time[data-age]", within).forEach((each) => {
    const text = each.dataset.due !== undefined && Date.parse(each.dateTime) <= Date.now() ? "now" : age(each.dateTime);
    if (each.textContent !== text) each.textContent = text;
  });
  tell();
  setInterval(tell, 1000);

  // Copying
  const copy = async (text) => {
    if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
    const field = document.createElement("textarea");
    field.value = text;
    field.className = "visually-hidden";
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  };
  window.portalCopy = async (button, text) => {
    const was = button.textContent;
    await copy(text);
    button.classList.add("done");
    button.textContent = "Copied";
    say("Copied");
    setTimeout(() => { button.classList.remove("done"); button.textContent = was; }, 1200);
  };

  // Clicks: copying, rows that lead somewhere, what needs a second thought, the menu
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button && button.dataset.copy !== undefined) { window.portalCopy(button, button.dataset.copy); return; }
    if (button && button.dataset.sure && !window.confirm(button.dataset.sure)) { event.preventDefault(); return; }
    if (button && button.dataset.menu !== undefined) {
      const shown = document.getElementById("nav").classList.toggle("shown");
      document.querySelector(".person").classList.toggle("shown", shown);
      button.setAttribute("aria-expanded", String(shown));
      return;
    }
    const row = event.target.closest("tr[data-href]");
    if (!row || event.target.closest("a, button, input, label, .pick") || String(window.getSelection())) return;
    if (event.metaKey || event.ctrlKey) window.open(row.dataset.href); else window.location.assign(row.dataset.href);
  });

  // Choosing rows
  const chosen = () => all('input[name="delivery_id"]:checked').length;
  const count = () => {
    all("[data-needs-choice]").forEach((each) => { each.disabled = chosen() === 0; });
    all("[data-chosen]").forEach((each) => { each.textContent = chosen() ? `(${chosen()})` : ""; });
  };
  document.addEventListener("change", (event) => {
    if (event.target.dataset.chooseAll !== undefined) {
      all('input[name="delivery_id"]').forEach((each) => { each.checked = event.target.checked; });
    }
    if (event.target.dataset.submit !== undefined) event.target.form.requestSubmit();
    count();
  });
  count();

  // A filter's address holds only what was filled in
  document.addEventListener("submit", (event) => {
    if (event.target.matches("form.filters[method=get]")) {
      all("input, select", event.target).forEach((each) => { if (!each.value) each.disabled = true; });
    }
  });
  window.addEventListener("pageshow", () => all("form.filters :disabled").forEach((each) => { each.disabled = false; }));

  // On a phone a filter that says nothing is folded away: what it filters is the page
  all("main > form.filters[method=get]").forEach((form) => {
    if (!narrow.matches || window.location.search) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Filter…";
    button.className = "fold";
    button.setAttribute("aria-expanded", "false");
    form.hidden = true;
    button.addEventListener("click", () => { form.hidden = !form.hidden; button.setAttribute("aria-expanded", String(!form.hidden)); });
    // Not `before`: a field of that name would stand in its place.
    form.insertAdjacentElement("beforebegin", button);
  });

  // Keys
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && event.target.matches("[data-search], .find input")) { event.target.blur(); return; }
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input:not([type=checkbox]), select, textarea")) return;
    if (event.key === "/") {
      const field = document.querySelector("[data-search]:is(input), .search input, .find input");
      if (field) { event.preventDefault(); field.focus(); }
      return;
    }
    const rows = all("table[data-keys] tbody tr");
    const at = rows.findIndex((row) => row.contains(document.activeElement));
    const move = { j: 1, k: -1 }[event.key];
    if (move && rows.length) {
      const row = rows[Math.min(rows.length - 1, Math.max(0, at + move))];
      row.querySelector(".row-link").focus();
      event.preventDefault();
    } else if (event.key === "x" && at >= 0) {
      const box = rows[at].querySelector('input[type="checkbox"]');
      if (box) { box.checked = !box.checked; count(); event.preventDefault(); }
    }
  });

  // Live rows
  const rowsOf = (html) => {
    const body = document.createElement("tbody");
    body.innerHTML = html;
    return all(":scope > tr", body);
  };
  const replaceAll = (target, html) => {
    const known = new Map(all(":scope > tr", target).map((row) => [row.id, row]));
    const fresh = rowsOf(html);
    const active = document.activeElement && document.activeElement.closest("tr");
    fresh.forEach((row, at) => {
      const old = known.get(row.id);
      let shown = row;
      tell(row);
      if (old) {
        known.delete(row.id);
        const box = old.querySelector("input:checked");
        if (box) row.querySelector("input").checked = true;
        if (old.dataset.version === row.dataset.version) shown = old; else { row.classList.add("fresh"); old.replaceWith(row); }
        if (old === active && shown === row) row.querySelector(".row-link").focus();
      } else if (known.size || at) row.classList.add("fresh");
      if (target.children[at] !== shown) target.insertBefore(shown, target.children[at] || null);
    });
    // What somebody chose stays until they are done with it, at the end, however many came since.
    known.forEach((row) => { if (!row.querySelector("input:checked")) row.remove(); });
  };
  const prepend = (target, html) => {
    const seen = new Set(all(":scope > tr", target).map((row) => row.id));
    rowsOf(html).reverse().forEach((row) => {
      if (seen.has(row.id)) return;
      row.classList.add("fresh");
      tell(row);
      target.prepend(row);
    });
    while (target.children.length > Number(target.dataset.liveKeep)) target.lastElementChild.remove();
  };
  const silent = 12000;
  all("[data-live]").forEach((place) => {
    const target = document.querySelector(place.dataset.liveTarget);
    const says = place.querySelector("[data-live-says]");
    const button = place.querySelector("[data-live-pause]");
    let source = null, last = "", paused = false, again = 0, wait = 1000, heard = Date.now(), over = false;
    const cut = (text) => show("off", text);
    const show = (state, text) => {
      place.classList.toggle("on", state === "on");
      place.classList.toggle("off", state === "off");
      if (says.textContent !== text) says.textContent = text;
    };
    const open = () => {
      clearTimeout(again);
      const url = new URL(place.dataset.live, window.location.href);
      if (last && target.dataset.liveKeep) { url.searchParams.delete("cursor"); url.searchParams.set("last_event_id", last); }
      source = new EventSource(url);
      heard = Date.now();
      const hear = () => { heard = Date.now(); if (!place.classList.contains("on")) show("on", "Live"); };
      source.onopen = () => { hear(); wait = 1000; };
      source.onerror = () => {
        cut("Connection cut; it goes on from where it was as soon as it can");
        if (source.readyState === EventSource.CLOSED) { wait = Math.min(wait * 2, 15000); again = setTimeout(open, wait); }
      };
      source.addEventListener("beat", hear);
      source.addEventListener("ready", (event) => { hear(); last = event.lastEventId; });
      source.addEventListener("rows", (event) => {
        hear();
        last = event.lastEventId;
        const { html } = JSON.parse(event.data);
        if (target.dataset.liveKeep) prepend(target, html); else replaceAll(target, html);
        all(`[data-empty="#${target.id}"]`).forEach((each) => { each.hidden = target.children.length > 0; });
        count();
      });
      source.addEventListener("closing", (event) => {
        if (JSON.parse(event.data).again) return;
        source.close();
        over = true;
        cut("Signed out or turned to another environment: load the page again");
      });
    };
    // A connection can be cut without a word: who hears nothing for so long says so, and begins again where it was.
    const look = () => {
      if (paused || over || !source || source.readyState === EventSource.CLOSED) return;
      // Without a network a server on this machine is heard all the same; what is not heard then is believed sooner.
      if (Date.now() - heard < (navigator.onLine ? silent : silent / 2)) return;
      cut(navigator.onLine ? "Nothing is heard; trying again from where it was" : "No network; it goes on from where it was as soon as there is one");
      source.close();
      open();
    };
    setInterval(look, 1000);
    window.addEventListener("online", () => { if (!paused && !over) { source.close(); open(); } });
    button.addEventListener("click", () => {
      paused = !paused;
      button.textContent = paused ? "Go on" : "Pause";
      if (paused) { source.close(); clearTimeout(again); show("", "Paused"); } else { over = false; open(); }
    });
    window.addEventListener("pagehide", () => source && source.close());
    open();
  });

  // Parts that load themselves anew: what did not change stays as it is, with what is open in it
  document.addEventListener("htmx:beforeSwap", (event) => {
    const target = event.detail.target;
    const version = target && target.dataset.version;
    if (version && event.detail.serverResponse.includes(`data-version="${version}"`)) event.detail.shouldSwap = false;
    if (target.dataset.status && !event.detail.serverResponse.includes(`data-status="${target.dataset.status}"`)) {
      const now = /data-status="([a-z_]+)"/.exec(event.detail.serverResponse);
      if (now) say(`Now ${now[1].replaceAll("_", " ")}`);
    }
    target.kept = new Map(all("[data-keep]", target).map((each) => [each.dataset.keep, each.tagName === "DETAILS" ? each.open : each.value]));
    window.portalKept = target.kept;
  });
  document.addEventListener("htmx:afterSettle", () => {
    const kept = window.portalKept || new Map();
    all("[data-keep]").forEach((each) => {
      if (!kept.has(each.dataset.keep)) return;
      if (each.tagName === "DETAILS") each.open = kept.get(each.dataset.keep); else each.value = kept.get(each.dataset.keep);
    });
    tell();
  });

  // Parts that cannot be loaded anew: the page says from when it is, and goes on by itself
  const stale = document.getElementById("stale");
  let fresh = new Date();
  const grow = (text, link) => {
    if (stale.dataset.text === text) return;
    stale.dataset.text = text;
    stale.hidden = !text;
    stale.replaceChildren(text);
    if (link) {
      const to = document.createElement("a");
      to.href = link;
      to.textContent = "Sign in again";
      stale.append(" ", to);
    }
  };
  const lost = () => grow(`The connection is cut: this is as it was at ${fresh.toISOString().slice(11, 19)} UTC. It goes on by itself.`);
  document.addEventListener("htmx:sendError", lost);
  document.addEventListener("htmx:timeout", lost);
  document.addEventListener("htmx:responseError", (event) => {
    const { status } = event.detail.xhr;
    if (status === 401) grow("Your session has ended, so nothing here moves any more.", `/portal/sign-in?next=${encodeURIComponent(window.location.pathname + window.location.search)}`);
    else if (status >= 500) lost();
    else if (status === 404) grow("This is not there any more.");
  });
  document.addEventListener("htmx:afterRequest", (event) => { if (event.detail.successful) { fresh = new Date(); grow(""); } });

  // What was sent is not sent twice by a second click
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || form.method !== "post") return;
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "yes";
    setTimeout(() => { delete form.dataset.sent; }, 10000);
  });
  window.addEventListener("pageshow", () => all("form[data-sent]").forEach((form) => { delete form.dataset.sent; }));

  // A request as it was sent, to the byte: for a shell, to read, and to verify its signatures, here and nowhere else
  const exactly = async (place) => {
    const answer = await fetch(place, { headers: { accept: "application/json" } });
    if (!answer.ok || answer.redirected) throw new Error(answer.redirected ? "Sign in again: the session has ended." : "This request is not kept any more.");
    return answer.json();
  };
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button.copy[data-exact]");
    if (!button) return;
    try {
      const found = await exactly(button.dataset.exact);
      if (found.curl === null) throw new Error(found.why);
      await window.portalCopy(button, found.curl);
    } catch (error) {
      button.textContent = error.message;
      say(error.message);
    }
  });
  document.addEventListener("toggle", async (event) => {
    const place = event.target;
    if (!place.matches("details[data-exact]") || !place.open || place.dataset.filled) return;
    place.dataset.filled = "yes";
    try {
      const found = await exactly(place.dataset.exact);
      place.querySelector("[data-said]").textContent = found.why || `It is ${found.said}.`;
      place.querySelector("[data-text]").textContent = found.text || "";
      place.querySelector("[data-text]").hidden = !found.text;
    } catch (error) {
      place.querySelector("[data-said]").textContent = error.message;
    }
  }, true);

  class Cannot extends Error {}
  const bytes = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const keyOf = async (text) => {
    if (!window.crypto || !crypto.subtle) throw new Cannot("Nothing was verified: browsers compute signatures on pages under HTTPS or on localhost only, and this page is neither.");
    if (text.startsWith("whsk_")) throw new Cannot("Nothing was verified: this is a private key. The public one (whpk_…) verifies; keep this one to yourself.");
    const open = text.startsWith("whpk_");
    let raw;
    try { raw = bytes(text.replace(/^wh(sec|pk)_/, "")); } catch { raw = new Uint8Array(); }
    if (!raw.length || (open && raw.length !== 32)) throw new Cannot(`Nothing was verified: this is no ${open ? "public key: whpk_ and base64 of 32 bytes" : "secret: whsec_ and base64"} after it.`);
    if (!open) return { version: "v1", what: "secret", method: "HMAC", key: await crypto.subtle.importKey("raw", raw, { name: "HMAC", hash: "SHA-256" }, false, ["verify"]) };
    try {
      return { version: "v1a", what: "public key", method: "Ed25519", key: await crypto.subtle.importKey("raw", raw, "Ed25519", false, ["verify"]) };
    } catch {
      throw new Cannot("Nothing was verified: this browser does not know Ed25519.");
    }
  };
  const verified = async (found, text) => {
    if (!found.signature) throw new Cannot("There is nothing to verify: the request carries no webhook-signature.");
    const signatures = found.signature.split(" ").map((each) => [each.slice(0, each.indexOf(",")), each.slice(each.indexOf(",") + 1)]);
    const { version, what, method, key } = await keyOf(text);
    if (found.body === null) throw new Cannot(`Nothing was verified. ${found.why}`);
    if (!signatures.some(([each]) => each === version)) {
      const other = version === "v1" ? "v1a, which the public key (whpk_…) verifies" : "v1, which the secret (whsec_…) verifies";
      throw new Cannot(`Nothing was verified: this is for ${version}, and the request is signed with ${other}.`);
    }
    const body = bytes(found.body);
    const begin = new TextEncoder().encode(`${found.id}.${found.timestamp}.`);
    const signed = new Uint8Array(begin.length + body.length);
    signed.set(begin);
    signed.set(body, begin.length);
    const over = `over “${found.id}.${found.timestamp}.” and the ${body.length} bytes of the body (${found.said})`;
    for (const [at, [each, value]] of signatures.entries()) {
      if (each !== version) continue;
      let raw;
      try { raw = bytes(value); } catch { continue; }
      if (await crypto.subtle.verify(method, key, raw, signed)) {
        return [true, `The signature is right: ${version}, number ${at + 1} of ${signatures.length}, made with this ${version === "v1" ? "secret" : "key's private half"} ${over}.`];
      }
    }
    const count = signatures.filter(([each]) => each === version).length;
    return [false, `The signature is of another ${what}: ${count === 1 ? `the one ${version} signature was` : `the ${count} ${version} signatures were`} not made with this one ${over}.`];
  };
  document.addEventListener("submit", async (event) => {
    const form = event.target.closest("form[data-verify]");
    if (!form) return;
    event.preventDefault();
    const output = form.querySelector("output");
    const answer = (kind, text) => { output.className = kind; output.textContent = text; say(text); };
    answer("", "Verifying…");
    try {
      const found = await exactly(form.dataset.verify);
      const text = form.querySelector("input").value.trim();
      if (!text) throw new Cannot("Nothing was verified: give the secret (whsec_…) or the public key (whpk_…).");
      const [good, said] = await verified(found, text);
      answer(good ? "good" : "bad", said);
    } catch (error) {
      answer("cannot", error.message);
    }
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-public]");
    if (!button) return;
    const form = button.form;
    form.querySelector("input").value = button.dataset.public;
    form.requestSubmit();
  });

  // Plots
  window.addEventListener("load", () => all("[data-plot]").forEach((place) => {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const [times, values, texts] = JSON.parse(place.dataset.plot);
    const few = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 4 });
    const utc = (at) => new Date(at * 1000).toISOString();
    const tick = (at, step) => (step >= 86400 ? utc(at).slice(5, 10) : step >= 60 ? utc(at).slice(11, 16) : step >= 1 ? utc(at).slice(11, 19) : utc(at).slice(14, 23));
    const axis = { stroke: colour("--dim"), grid: { stroke: colour("--rule"), width: 1 }, ticks: { stroke: colour("--rule") } };
    const size = () => ({ width: place.clientWidth - 20, height: 230 });
    const plot = new uPlot({
      ...size(),
      tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
      series: [{ label: "UTC", value: (_, at) => (at === null ? "–" : utc(at).slice(0, 19).replace("T", " ")) }, { label: place.dataset.plotUnit, value: (_, value, __, at) => texts[at] ?? "–", stroke: colour("--accent"), width: 2, fill: `${colour("--accent")}22`, paths: uPlot.paths.stepped({ align: 1 }) }],
      axes: [{ ...axis, space: 80, values: (_, found, __, ___, step) => found.map((at) => tick(at, step)) }, { ...axis, size: 64, values: (_, found) => found.map((each) => few.format(each)) }],
    }, [times, values], place);
    window.addEventListener("resize", () => plot.setSize(size()));
  }));
})();
