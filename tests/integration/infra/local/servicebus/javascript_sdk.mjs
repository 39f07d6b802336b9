// Uses the broker as programs in JavaScript do; prints what came of it as one JSON document.
import { createRequire } from "node:module";

const [, , connectionString, queue, topic, subscription] = process.argv;
const require = createRequire(`${process.env.JAVASCRIPT_SDK_HOME}/`);
const { ServiceBusClient } = require("@azure/service-bus");
const rhea = require("rhea");

const client = new ServiceBusClient(connectionString, {
  retryOptions: { maxRetries: 0, timeoutInMs: 30_000 },
});
const said = {};
const refusal = async (work) => {
  try {
    return JSON.stringify((await work()) ?? null);
  } catch (error) {
    return `${error.code}: ${error.message}`;
  }
};
const seen = ({ messageId, deliveryCount, body, applicationProperties }) =>
  ({ messageId, deliveryCount, body, properties: applicationProperties });

const sender = client.createSender(queue);
const receiver = client.createReceiver(queue);
const next = async () => (await receiver.receiveMessages(1, { maxWaitTimeInMs: 30_000 }))[0];

await sender.sendMessages({ body: { a: 1 }, applicationProperties: { day: new Date(0), n: 1 } });
let message = await next();
said.first = seen(message);
await receiver.abandonMessage(message, { why: "again", n: 2 });
message = await next();
said.abandoned = seen(message);
await receiver.deferMessage(message, { deferred: true });
[message] = await receiver.receiveDeferredMessages(message.sequenceNumber);
said.deferred = seen(message);
await receiver.deadLetterMessage(message, {
  deadLetterReason: "reason", deadLetterErrorDescription: "description", extra: 3.5,
});
const dead = client.createReceiver(queue, { subQueueType: "deadLetter" });
[message] = await dead.receiveMessages(1, { maxWaitTimeInMs: 30_000 });
said.dead = { ...seen(message), reason: message.deadLetterReason,
              description: message.deadLetterErrorDescription };
await dead.completeMessage(message);

await sender.sendMessages([{ body: "1" }, { body: "2" }]);
message = await next();
await receiver.renewMessageLock(message);
await receiver.completeMessage(message);
await receiver.completeMessage(await next());
const [number] = await sender.scheduleMessages({ body: "later" }, new Date(Date.now() + 60_000));
await sender.cancelScheduledMessages(number);
said.left = (await receiver.peekMessages(10)).length;

said.tooLarge = await refusal(() =>
  sender.sendMessages({ body: "", applicationProperties: { x: "y".repeat(33_000) } }));
const many = Object.fromEntries([..."abc"].map((name) => [name, "y".repeat(30_000)]));
said.tooMany = await refusal(() => sender.sendMessages({ body: "", applicationProperties: many }));
said.nextSession = await refusal(() => client.acceptNextSession(queue));
said.namedSession = await refusal(() => client.acceptSession(queue, "one"));
const rules = client.createRuleManager(topic, subscription);
said.rules = await refusal(async () => { for await (const rule of rules.listRules()) return rule; });
await client.close();

const [port, key] = [/:(\d+);/, /SharedAccessKey=([^;]+)/].map((found) => found.exec(connectionString)[1]);
const plain = (password, body) => new Promise((resolve) => {
  const container = rhea.create_container();
  const connection = container.connect({
    host: "127.0.0.1", port: Number(port), reconnect: false,
    username: "RootManageSharedAccessKey", password,
  });
  const end = (outcome) => { connection.close(); resolve(outcome); };
  container.on("connection_open", () => connection.open_sender(queue));
  container.once("sendable", ({ sender: link }) => link.send({ body }));
  container.on("accepted", () => end("accepted"));
  container.on("rejected", () => end("rejected"));
  container.on("connection_error", () => end("connection_error"));
  container.on("disconnected", () => resolve("disconnected"));
});
said.plain = await plain(key, "a string, which is an AMQP value");
said.plainWithAnotherKey = await plain("another", "");
console.log(JSON.stringify(said));
process.exit(0);
