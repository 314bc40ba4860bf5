/**
 * Time for an engine that computes nothing: its own, or everybody's.
 *
 * @module
 */

/** Microseconds. */
export interface Clock {
  readonly now: number;
  /** Lets time pass until `time`, or for `timeoutUs`; whether `time` has come. */
  until(time: number, timeoutUs: number): boolean;
  /** Books time that whoever drives the loop would have taken. */
  spend(micros: number): void;
}

/** Jumps to whatever is waited for. */
export class VirtualClock implements Clock {
  now = 0;

  until(time: number, _timeoutUs: number): boolean {
    this.now = Math.max(this.now, time);
    return true;
  }

  spend(micros: number): void {
    this.now += micros;
  }
}

/** A pause of the thread that nobody ends. */
const PAUSE = new Int32Array(new SharedArrayBuffer(4));

/** The time that everybody has. The thread sleeps while it waits. */
export class RealClock implements Clock {
  get now(): number {
    return 1000 * performance.now();
  }

  until(time: number, timeoutUs: number): boolean {
    const start = this.now;
    const wait = Math.min(time - start, timeoutUs);
    if (wait > 0) Atomics.wait(PAUSE, 0, 0, wait / 1000);
    return this.now >= time;
  }

  /** The loop's own work takes what it takes. */
  spend(_micros: number): void {}
}
