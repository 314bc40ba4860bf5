/**
 * The sizes of an engine whose steps are simulated: the memory is the card's, and the model's shape may be another's.
 *
 * @module
 */
import { InvalidRequestError } from "../errors.ts";
import { type ModelTables, randomModel } from "../model/tables.ts";
import { DEFAULT_SLOTS, type EngineOptions, type EngineSizes, engineSizes } from "../options.ts";
import { readCard, SHAPES } from "./cards.ts";
import { type Card, kvBytes, type Shape, weightBytes } from "./cost.ts";

/** What steps are worked out for; plain data. */
export interface Simulation {
  /** E.g. "8b on 1 H200". */
  name: string;
  shape: Shape;
  card: Card;
  cards: number;
}

/** Of a card's memory that is neither weights nor KV. */
export const SPARE = 0.1;
const MOST_CARDS = 64;
/** What 16-bit KV is taken to be stored as. */
const DTYPE = "bf16";

/**
 * What options of a simulation come to, for a model of `tables`.
 *
 * @throws {InvalidRequestError} naming the option, the value found and the value wanted
 */
export function simulationOf(
  { simShape = "own", simCard = "h200", simCards = 1 }: EngineOptions,
  { config }: Pick<ModelTables, "config">,
): Simulation {
  const shape = simShape === "own" ? config : SHAPES[simShape];
  if (shape === undefined) {
    const names = ["own", ...Object.keys(SHAPES)].join(", ");
    throw new InvalidRequestError(`simShape is ${simShape}, wanted one of ${names}`, "simShape");
  }
  if (!Number.isInteger(simCards) || simCards < 1 || simCards > MOST_CARDS) {
    throw new InvalidRequestError(
      `simCards is ${simCards}, wanted an integer from 1 to ${MOST_CARDS}`,
      "simCards",
    );
  }
  const card = readCard(simCard);
  const { hidden, intermediate, layers, heads, kvHeads, vocab } = shape;
  const name = `${simShape === "own" ? "its own shape" : simShape} on ${simCards} ${card.name}`;
  return { name, shape: { hidden, intermediate, layers, heads, kvHeads, vocab }, card, cards: simCards };
}

/**
 * Sizes for `simulation`. KV takes what weights leave of the cards' memory, if the options do not say; in modes that
 * reserve it there are as many slots as that holds.
 *
 * @throws {InvalidRequestError} when the weights alone are too large, or an option does not fit
 */
export function simulatedSizes(
  options: EngineOptions,
  simulation: Simulation,
  maxPosition: number,
): EngineSizes {
  const { shape, card, cards } = simulation;
  const memory = options.kvMemory ?? Math.floor(cards * card.memory * (1 - SPARE) - weightBytes(shape));
  if (memory <= 0) {
    const gib = (bytes: number) => (bytes / 2 ** 30).toFixed(1);
    throw new InvalidRequestError(
      `simCards is ${cards}: weights of ${gib(weightBytes(shape))} GiB leave no room for KV in ` +
        `${gib(cards * card.memory)} GiB; wanted more cards`,
      "simCards",
    );
  }
  const context = Math.min(options.maxContext ?? maxPosition, maxPosition);
  const reserves = options.kvMode?.startsWith("static") ?? false;
  const most = reserves ? Math.max(1, Math.floor(memory / kvBytes(shape) / context)) : Infinity;
  return {
    ...engineSizes(
      {
        ...options,
        ...(most < Infinity && { slots: Math.min(options.slots ?? DEFAULT_SLOTS, most) }),
        kvMemory: memory,
        // What an answer says is made up: it can follow no grammar.
        structuredOutput: false,
      },
      randomModel({ ...shape, maxPosition, dtype: DTYPE }),
      DTYPE,
      true,
    ),
    simulation,
  };
}
