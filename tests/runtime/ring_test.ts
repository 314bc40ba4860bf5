import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { Ring } from "../../runtime/ring.ts";

Deno.test("Ring hands every word over once and in order, round and round", () => {
  fc.assert(fc.property(fc.array(fc.array(fc.integer(), { minLength: 1, maxLength: 40 })), (records) => {
    const buffer = Ring.allocate(64);
    const producer = new Ring(buffer);
    const consumer = new Ring(buffer);
    const found: number[] = [];
    const drain = () => {
      while (consumer.available > 0) found.push(consumer.take());
      consumer.release();
    };
    for (const record of records) {
      if (!producer.hasRoom(record.length)) drain();
      assert(producer.hasRoom(record.length));
      for (const word of record) producer.put(word);
      producer.publish();
    }
    drain();
    assertEquals(found, records.flat());
  }));
});

Deno.test("Ring.publish() shows a record as a whole, not before", () => {
  const buffer = Ring.allocate(64);
  const producer = new Ring(buffer);
  const consumer = new Ring(buffer);
  producer.put(1);
  producer.putFloat(0.5);
  assertEquals(consumer.available, 0);
  producer.publish();
  assertEquals(consumer.available, 2);
  assertEquals([consumer.take(), consumer.takeFloat()], [1, 0.5]);
});

Deno.test("Ring.hasRoom() is false until the consumer releases what it took", () => {
  const buffer = Ring.allocate(64);
  const producer = new Ring(buffer);
  const consumer = new Ring(buffer);
  for (let i = 0; i < 64; i++) producer.put(i);
  producer.publish();
  assertEquals(producer.hasRoom(1), false);
  for (let i = 0; i < 64; i++) consumer.take();
  assertEquals(producer.hasRoom(1), false);
  consumer.release();
  assertEquals(producer.hasRoom(64), true);
});

Deno.test("Ring.waitAsync() wakes when something is published", async () => {
  const buffer = Ring.allocate(64);
  const producer = new Ring(buffer);
  const consumer = new Ring(buffer);
  const woken = consumer.waitAsync(10_000);
  producer.put(7);
  producer.publish();
  await woken;
  assertEquals(consumer.take(), 7);
});
