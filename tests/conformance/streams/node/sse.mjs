// Follows server-sent events with npm's `eventsource`: one JSON object as argument, the data of each event as a line of JSON.
import { EventSource } from "eventsource";

const { url, headers, count, types } = JSON.parse(process.argv[2]);
const withHeaders = (input, init) => fetch(input, { ...init, headers: { ...init.headers, ...headers } });
const source = new EventSource(url, { fetch: withHeaders });
// Its timer lets Node end while it waits to come back.
const awake = setInterval(() => {}, 1000);
let seen = 0;

for (const type of types) {
  source.addEventListener(type, (event) => {
    process.stdout.write(JSON.stringify(event.data) + "\n");
    if (++seen >= count) {
      source.close();
      clearInterval(awake);
    }
  });
}
