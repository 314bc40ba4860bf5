/**
 * `GET /v1/models` and `GET /v1/models/{id}`.
 *
 * @module
 */

import { Hono } from "hono";
import type { ModelInfo } from "../../runtime/types.ts";
import type { ApiContext, ApiEnv } from "../context.ts";
import { requireModel } from "../requests.ts";

/** Routes of the served model. */
export function modelRoutes({ engine }: ApiContext): Hono<ApiEnv> {
  return new Hono<ApiEnv>()
    .get("/v1/models", (c) => c.json({ object: "list", data: [modelBody(engine.model)] }))
    // Ids such as org/name have slashes, encoded or not.
    .get("/v1/models/:id{.+}", (c) => {
      requireModel(engine.model, c.req.param("id"));
      return c.json(modelBody(engine.model));
    });
}

/** OpenAI's model object, with vLLM's `max_model_len`. */
function modelBody(model: ModelInfo) {
  return {
    id: model.id,
    object: "model",
    created: model.created,
    owned_by: "kvrm",
    max_model_len: model.maxContext,
    architecture: model.architecture,
    dtype: model.dtype,
    parameters: model.parameters,
    vocab_size: model.vocabSize,
  };
}
