// The explorer: a form becomes a request, its answer, and the same request as curl and as Python.
"use strict";
(() => {
  const mint = document.querySelector("[data-mint]");
  const base = mint.dataset.base;
  let token = "", timer = 0;
  const formToken = document.querySelector('meta[name="form-token"]').content;

  if (mint.tagName === "FORM") {
    mint.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (!mint.querySelector("input:checked")) { mint.querySelector("[data-minted]").textContent = "Choose at least one scope"; return; }
      const answer = await fetch("/portal/explorer/token", { method: "POST", body: new URLSearchParams(new FormData(mint)), headers: { "x-form-token": formToken } });
      const output = mint.querySelector("[data-minted]");
      if (!answer.ok) { output.textContent = `refused: ${answer.status}`; return; }
      const made = await answer.json();
      token = made.access_token;
      mint.querySelector("[data-token]").hidden = false;
      const ends = Date.now() + made.expires_in * 1000;
      const tick = () => {
        const left = Math.round((ends - Date.now()) / 1000);
        output.textContent = left > 0 ? `good for ${left} s: ${made.scope}` : "ended";
        if (left <= 0) { token = ""; mint.querySelector("[data-token]").hidden = true; clearInterval(timer); }
      };
      clearInterval(timer);
      timer = setInterval(tick, 1000);
      tick();
    });
    mint.querySelector("[data-token]").addEventListener("click", (event) => window.portalCopy(event.target, `export TOKEN='${token}'`));
  }

  const request = (operation) => {
    let path = operation.dataset.path;
    const query = new URLSearchParams();
    const headers = {};
    operation.querySelectorAll("[data-name]").forEach((field) => {
      const value = field.value.trim();
      if (field.dataset.in === "path") path = path.replace(`{${field.dataset.name}}`, encodeURIComponent(value));
      else if (value && field.dataset.in === "query") query.append(field.dataset.name, value);
      else if (value && field.dataset.in === "header") headers[field.dataset.name] = value;
    });
    const body = operation.querySelector("[data-body]");
    if (body) headers["content-type"] = "application/json";
    const text = query.toString();
    return { method: operation.dataset.method, path: text ? `${path}?${text}` : path, headers, body: body ? body.value : undefined };
  };
  const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
  const asCurl = ({ method, path, headers, body }) => [
    `curl -sS -X ${method} ${quoted(base + path)}`, `-H "Authorization: Bearer $TOKEN"`,
    ...Object.entries(headers).map(([name, value]) => `-H ${quoted(`${name}: ${value}`)}`),
    ...(body === undefined ? [] : [`--data-raw ${quoted(body)}`]),
  ].join(" \\\n  ");
  const asPython = ({ method, path, headers, body }) => [
    "import json, os, urllib.request", "",
    "request = urllib.request.Request(",
    `    ${JSON.stringify(base + path)},`,
    `    method=${JSON.stringify(method)},`,
    `    headers={"Authorization": f"Bearer {os.environ['TOKEN']}", ${Object.entries(headers).map(([name, value]) => `${JSON.stringify(name)}: ${JSON.stringify(value)}`).join(", ")}},`,
    ...(body === undefined ? [] : [`    data=${JSON.stringify(body)}.encode(),`]),
    ")", "with urllib.request.urlopen(request) as answer:", "    print(answer.status, json.load(answer))", "",
  ].join("\n");

  document.querySelectorAll(".operation").forEach((operation) => {
    const form = operation.querySelector("form");
    form.addEventListener("click", (event) => {
      const as = event.target.dataset.as;
      if (as) window.portalCopy(event.target, (as === "curl" ? asCurl : asPython)(request(operation)));
    });
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const asked = request(operation);
      const place = operation.querySelector(".answer");
      const status = place.querySelector("[data-status]");
      place.hidden = false;
      const stream = asked.path.startsWith("/v1/events/stream");
      const stop = new AbortController();
      try {
        const begun = performance.now();
        const answer = await fetch(asked.path, { method: asked.method, body: asked.body, credentials: "omit", signal: stop.signal,
          headers: token ? { ...asked.headers, authorization: `Bearer ${token}` } : asked.headers });
        let text = "";
        if (stream && answer.ok) { text = new TextDecoder().decode((await answer.body.getReader().read()).value) + "…"; stop.abort(); } else text = await answer.text();
        status.textContent = `${answer.status} in ${Math.round(performance.now() - begun)} ms${token ? "" : " (no token was sent)"}`;
        try { text = JSON.stringify(JSON.parse(text), null, 2); } catch { /* shown as it is */ }
        place.querySelector("[data-answer]").textContent = text;
        place.querySelector("[data-headers]").textContent = [...answer.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
      } catch (error) {
        status.textContent = `no answer: ${error.message}`;
      }
    });
  });

  document.querySelector("[data-find]").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    document.querySelectorAll(".operations").forEach((group) => {
      let any = false;
      group.querySelectorAll(".operation").forEach((operation) => {
        const found = words.every((word) => operation.dataset.words.toLowerCase().includes(word));
        operation.hidden = !found;
        any = any || found;
      });
      group.hidden = !any;
    });
  });
})();
