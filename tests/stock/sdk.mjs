// Runs the client helper under Node: events out, one JSON line each; operations in. What it
// remembers is in a file, as localStorage would be after a reload.
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import WebSocket from "ws";

const { sdk, file, failing = [], ...options } = JSON.parse(process.argv[2]);
const { Heartcast } = await import(sdk);
const say = (event, fields = {}) => process.stdout.write(JSON.stringify({ event, ...fields }) + "\n");

const kept = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : {};
const storage = {
  getItem: (key) => kept[key] ?? null,
  setItem: (key, value) => {
    kept[key] = value;
    writeFileSync(`${file}.new`, JSON.stringify(kept)); // whole or not at all: we may be killed
    renameSync(`${file}.new`, file);
  },
};

const heartcast = new Heartcast({ ...options, storage, WebSocket });
heartcast.onState = (state, code) => say(state, { code: code ?? 0 });
heartcast.onError = (error) => say("error", { message: String(error.message) });
heartcast.onPush = async (push) => {
  const { title } = push.data.payload ?? push.data;
  say("push", { id: push.id, title });
  if (failing.includes(title) && failing.splice(failing.indexOf(title), 1)) throw new Error(`cannot show ${title}`);
  await push.exposed();
};
heartcast.connect();

for await (const line of createInterface({ input: process.stdin })) {
  const { op } = JSON.parse(line);
  if (op === "close") heartcast.close();
}
process.exit(0);
