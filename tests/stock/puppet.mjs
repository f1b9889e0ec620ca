// Drives the stock JavaScript clients: one JSON operation per line in, one JSON event per line out.
import { createInterface } from "node:readline";
import { Centrifuge } from "centrifuge";
import { EventSource } from "eventsource";
import WebSocket from "ws";

const say = (event, fields = {}) => process.stdout.write(JSON.stringify({ event, ...fields }) + "\n");
const subscriptions = new Map();
let client;
let stream;

const follow = (sub) => {
  for (const name of ["subscribing", "subscribed", "unsubscribed", "publication", "join", "leave"]) {
    sub.on(name, (ctx) => say(name, { channel: sub.channel, ...ctx }));
  }
  sub.on("error", (ctx) => say("suberror", { channel: sub.channel, code: ctx.error.code }));
};

const operations = {
  connect({ url, options }) {
    client = new Centrifuge(url, { websocket: WebSocket, minReconnectDelay: 20, maxReconnectDelay: 50, ...options });
    for (const name of ["connecting", "connected", "disconnected", "message"]) {
      client.on(name, (ctx) => say(name, ctx));
    }
    for (const name of ["subscribed", "publication", "unsubscribed"]) {
      client.on(name, (ctx) => say(`server_${name}`, ctx));
    }
    client.connect();
  },
  subscribe({ channel, options }) {
    const sub = client.newSubscription(channel, options);
    subscriptions.set(channel, sub);
    follow(sub);
    sub.subscribe();
  },
  unsubscribe: ({ channel }) => subscriptions.get(channel).unsubscribe(),
  publish: ({ channel, data }) => client.publish(channel, data),
  history: ({ channel, options }) => client.history(channel, options),
  presence: ({ channel }) => client.presence(channel),
  presence_stats: ({ channel }) => client.presenceStats(channel),
  rpc: ({ method, data }) => client.rpc(method, data),
  send: ({ data }) => client.send(data),
  disconnect: () => client.disconnect(),
  stream({ url }) {
    stream = new EventSource(url);
    stream.onopen = () => say("open");
    stream.onerror = (error) => say("stream_error", { code: error.code ?? 0 });
    for (const name of ["message", "gap", "subscribed", "close"]) {
      stream.addEventListener(name, (event) => say(name, { data: JSON.parse(event.data), id: event.lastEventId }));
    }
  },
  close_stream: () => stream.close(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { op, ...fields } = JSON.parse(line);
  Promise.resolve()
    .then(() => operations[op](fields))
    .then((result) => say(`${op}_done`, { result: result ?? null }))
    .catch((error) => say(`${op}_failed`, { code: error.code ?? null, message: String(error.message ?? error) }));
}
process.exit(0);
