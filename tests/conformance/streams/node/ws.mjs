// Follows a WebSocket with npm's `ws`: one JSON object as argument, the text of each array of events as a line of JSON.
import { WebSocket } from "ws";

const { url, headers, count, cursor } = JSON.parse(process.argv[2]);
let place = cursor;
let seen = 0;

function follow() {
  const socket = new WebSocket(`${url}?cursor=${place}`, { headers });
  let array = null;
  socket.on("message", (data) => {
    const text = data.toString();
    const message = JSON.parse(text);
    if (Array.isArray(message)) {
      array = text;
      return;
    }
    // An array counts once its checkpoint is here: without one it comes again.
    if (message.type === "checkpoint" && array !== null) {
      process.stdout.write(JSON.stringify(array) + "\n");
      seen += JSON.parse(array).length;
      array = null;
    }
    place = message.cursor ?? place;
    if (seen >= count) {
      socket.close();
    }
  });
  socket.on("error", () => {});
  socket.on("close", () => seen < count && setTimeout(follow, 200));
}

follow();
