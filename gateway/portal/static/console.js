// The stream console: the public streams over a ticket, with the cursor and the lag in sight.
"use strict";
(() => {
  const form = document.querySelector("[data-console]");
  const part = (name) => document.querySelector(`[data-console-${name}]`);
  const cut = part("cut");
  const formToken = document.querySelector('meta[name="form-token"]').content;
  let close = null, cursor = "", count = 0;

  const log = (text) => {
    const line = document.createElement("li");
    line.textContent = text;
    part("log").prepend(line);
    while (part("log").children.length > 300) part("log").lastElementChild.remove();
  };
  const state = (text, open) => {
    part("state").textContent = text;
    cut.disabled = !open;
    part("connect").disabled = open;
  };
  const place = (given) => { cursor = given; part("cursor").textContent = given; };
  const take = (envelope) => {
    count += 1;
    part("count").textContent = String(count);
    part("sequence").textContent = String(envelope.sequence);
    part("lag").textContent = `${Math.max(0, Date.now() - Date.parse(envelope.timestamp))} ms`;
    log(`${envelope.sequence} ${envelope.type} ${envelope.resource.type} ${envelope.resource.id}`);
  };
  const over = {
    sse(query) {
      const source = new EventSource(`/v1/events/stream?${query}`);
      source.onopen = () => state("open", true);
      source.onerror = () => state(source.readyState === EventSource.CLOSED ? "refused" : "cut, trying again", source.readyState !== EventSource.CLOSED);
      const known = ["ready", "checkpoint", "closing", "reset"];
      const hear = (event) => {
        if (event.lastEventId) place(event.lastEventId);
        if (known.includes(event.type)) log(`${event.type} ${event.data}`); else take(JSON.parse(event.data));
      };
      [...known, ...[...form.elements.types.options].map((each) => each.value).filter(Boolean)].forEach((type) => source.addEventListener(type, hear));
      return () => source.close();
    },
    ws(query) {
      const socket = new WebSocket(`${window.location.origin.replace(/^http/, "ws")}/v1/events/socket?${query}`);
      socket.onopen = () => state("open", true);
      socket.onclose = (event) => state(`closed ${event.code} ${event.reason}`, false);
      socket.onmessage = (event) => {
        const frame = JSON.parse(event.data);
        if (Array.isArray(frame)) { frame.forEach(take); return; }
        if (frame.cursor) place(frame.cursor);
        if (frame.type !== "checkpoint") log(`${frame.type} ${JSON.stringify(frame)}`);
      };
      return () => socket.close();
    },
  };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    state("asking for a ticket", false);
    const answer = await fetch("/portal/console/ticket", { method: "POST", body: new URLSearchParams({ types: form.elements.types.value }), headers: { "x-form-token": formToken } });
    if (!answer.ok) { state(`refused: ${answer.status}`, false); return; }
    const { ticket } = await answer.json();
    const query = new URLSearchParams({ ticket });
    if (cursor) query.set("cursor", cursor); else query.set("from", form.elements.from.value);
    close = over[form.elements.over.value](query);
  });
  cut.addEventListener("click", () => {
    if (close) close();
    close = null;
    state("cut; connect again to go on", false);
    log("cut here");
  });
  form.elements.from.addEventListener("change", () => place(""));
})();
