import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { ServerClock } from "./clock";

let device = { wall: 0, monotonic: 0 };

beforeEach(() => {
  device = { wall: 1_000_000, monotonic: 5_000 };
  mock.method(Date, "now", () => device.wall);
  mock.method(performance, "now", () => device.monotonic);
});

afterEach(() => mock.restoreAll());

function pass(ms: number): void {
  device.wall += ms;
  device.monotonic += ms;
}

const iso = (ms: number): string => new Date(ms).toISOString();

/** A round trip to a server that is `ahead` of the device, with the answer stamped in its middle. */
function roundTrip(clock: ServerClock, ahead: number, out: number, back: number): void {
  const sentAt = device.monotonic;
  pass(out);
  const stamp = iso(device.wall + ahead);
  pass(back);
  clock.observe(stamp, sentAt, device.monotonic);
}

test("before the first frame it is the device's time", () => {
  assert.equal(new ServerClock().now(), 1_000_000);
});

test("a round trip tells the offset", () => {
  const clock = new ServerClock();
  roundTrip(clock, 90_000, 20, 20);
  assert.equal(clock.now(), device.wall + 90_000);
  pass(1_234);
  assert.equal(clock.now(), device.wall + 90_000);
});

test("the shortest recent round trip counts, and an old one no longer", () => {
  const clock = new ServerClock();
  roundTrip(clock, 90_000, 10, 10);
  roundTrip(clock, 90_000, 400, 20);
  assert.equal(clock.now(), device.wall + 90_000);
  pass(61_000);
  roundTrip(clock, 89_000, 50, 50);
  assert.equal(clock.now(), device.wall + 89_000);
});

test("a frame that came by itself only bounds the offset from below", () => {
  const clock = new ServerClock();
  const stamp = iso(device.wall + 90_000);
  pass(300);
  clock.observe(stamp);
  assert.equal(clock.now(), device.wall + 90_000 - 300);
  roundTrip(clock, 90_000, 20, 20);
  const late = iso(device.wall + 90_000);
  pass(2_000);
  clock.observe(late);
  assert.equal(clock.now(), device.wall + 90_000);
});

test("such a frame puts a lopsided round trip right", () => {
  const clock = new ServerClock();
  roundTrip(clock, 90_000, 0, 400);
  assert.equal(clock.now(), device.wall + 90_000 - 200);
  clock.observe(iso(device.wall + 90_000));
  assert.equal(clock.now(), device.wall + 90_000);
});

test("setting the device's clock changes nothing", () => {
  const clock = new ServerClock();
  roundTrip(clock, 90_000, 20, 20);
  const server = clock.now();
  device.wall += 3_600_000;
  assert.equal(clock.now(), server);
  device.wall -= 7_200_000;
  pass(10);
  assert.equal(clock.now(), server + 10);
});

test("after a sleep in which performance.now() stood still the next frame tells the time", () => {
  const clock = new ServerClock();
  roundTrip(clock, 90_000, 5, 5);
  device.wall += 600_000;
  const stamp = iso(device.wall + 90_000);
  pass(100);
  clock.observe(stamp);
  assert.equal(clock.now(), device.wall + 90_000 - 100);
  roundTrip(clock, 90_000, 50, 50);
  assert.equal(clock.now(), device.wall + 90_000);
});

test("a clock that was set back on the server is followed after a jump was noticed", () => {
  const clock = new ServerClock();
  roundTrip(clock, 90_000, 5, 5);
  device.wall += 5_000;
  roundTrip(clock, 10_000, 5, 5);
  assert.equal(clock.now(), device.wall + 10_000);
});

test("what is no time is left alone", () => {
  const clock = new ServerClock();
  roundTrip(clock, 90_000, 5, 5);
  clock.observe("soon");
  assert.equal(clock.now(), device.wall + 90_000);
});
