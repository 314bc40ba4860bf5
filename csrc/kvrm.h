// kvrm.h - the C ABI between the runtime (TypeScript) and a backend library.
//
// Rules that hold for every function:
//  - Arguments are integers, floats and caller-owned buffers. No pointer is ever handed out, so the
//    caller needs no permission beyond loading this one file.
//  - Handles are small non-zero integers. Numbers wider than 32 bits travel as two 32-bit halves.
//  - The return value is a kvrm_status unless the comment says otherwise. After a non-zero status
//    kvrm_last_error() gives a sentence: what was being done, the value found, the value wanted.
//  - Nothing throws or aborts across this boundary. A refused call changes nothing.
//  - One thread drives an engine (create, commit, wait, destroy); the library brings its own threads.
//  - All records are little-endian and made of 4-byte fields only; kvrm_layout() describes them in
//    text so that a mirror in another language can be checked when the library loads.
// The tables below are aligned by hand.
// clang-format off
#ifndef KVRM_H_
#define KVRM_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KVRM_ABI_VERSION 5u
#define KVRM_DESCRIPTOR_MAGIC 0x4d52564bu  // "KVRM"
#define KVRM_RESULT_MAGIC 0x5352564bu      // "KVRS"

#define KVRM_MAX_IN_FLIGHT 3u     // committed steps whose results were not taken yet
#define KVRM_MAX_SHAPES 8u        // decode[S] and up to seven mixed[S, C]
#define KVRM_MAX_TOP_LOGPROBS 20u // alternatives reported per token
#define KVRM_MAX_BIASES 1024u       // biased tokens of one slot
#define KVRM_MAX_COUNT 32767u       // occurrences of a token that penalties tell apart
#define KVRM_MAX_FAR_ROWS 256u      // summary rows of one slot
#define KVRM_MAX_DESCRIPTOR_BYTES (16u << 20)
#define KVRM_SECTION_ALIGN 64u    // each section of a descriptor or result starts on a multiple

typedef enum kvrm_status {
  KVRM_OK = 0,
  KVRM_INVALID_ARGUMENT = 1,    // a handle, size or configuration value is wrong
  KVRM_INVALID_DESCRIPTOR = 2,  // kvrm_commit refused the record; nothing changed
  KVRM_INVALID_MODEL = 3,       // a tensor is missing, mis-shaped or of an unknown type
  KVRM_IO = 4,                  // a file cannot be opened or mapped, or is too short
  KVRM_UNSUPPORTED = 5,         // well-formed, but this backend cannot do it
  KVRM_OUT_OF_MEMORY = 6,
  KVRM_TIMEOUT = 7,             // kvrm_wait: the step is still running
  KVRM_BUSY = 8,                // kvrm_commit: KVRM_MAX_IN_FLIGHT steps are uncollected
  KVRM_EMPTY = 9,               // kvrm_wait: no step is in flight
  KVRM_DEVICE_LOST = 10,
  KVRM_INTERNAL = 11,
} kvrm_status;

typedef enum kvrm_dtype {
  KVRM_F32 = 0,
  KVRM_F16 = 1,
  KVRM_BF16 = 2,
  KVRM_F8_E4M3 = 3,  // of KV only, where the backend has it
  // GGUF's block formats, of matrices, and Q8_0 of KV too, where the backend has it: a row is blocks of 32 or 256 numbers, each with its scales. What a block's
  // bytes mean is in common/block_format.h.
  KVRM_Q8_0 = 4,  // 34 bytes for 32
  KVRM_Q4_0 = 5,  // 18 bytes for 32
  KVRM_Q4_K = 6,  // 144 bytes for 256
  KVRM_Q5_K = 7,  // 176 bytes for 256
  KVRM_Q6_K = 8,  // 210 bytes for 256
} kvrm_dtype;

// What the matrices of the layers and the head become when they are loaded. Matrices in blocks stay as they are.
typedef enum kvrm_quantize {
  KVRM_QUANTIZE_NONE = 0,
  KVRM_QUANTIZE_FP8 = 1,   // on a GPU: e4m3, one scale for each row
  KVRM_QUANTIZE_INT8 = 2,  // on a GPU: one scale for each row; on the CPU: KVRM_Q8_0
  KVRM_QUANTIZE_INT4 = 3,  // on a GPU: one scale for each 128 of a row; on the CPU: KVRM_Q4_0
  KVRM_QUANTIZE_BF16 = 4,  // on the CPU: matrices of numbers become BF16, and so do activations where they meet them
} kvrm_quantize;

// ---------------------------------------------------------------------------------------------
// Model

typedef enum kvrm_role {
  KVRM_EMBED = 0,       // [vocab, hidden]
  KVRM_FINAL_NORM = 1,  // [hidden]
  KVRM_LM_HEAD = 2,     // [vocab, hidden]; absent when tied to KVRM_EMBED
  KVRM_ATTN_NORM = 3,   // [hidden]                      per layer from here on
  KVRM_Q = 4,           // [heads * head_dim, hidden]
  KVRM_K = 5,           // [kv_heads * head_dim, hidden]
  KVRM_V = 6,           // [kv_heads * head_dim, hidden]
  KVRM_O = 7,           // [hidden, heads * head_dim]
  KVRM_Q_BIAS = 8,      // [heads * head_dim]            optional
  KVRM_K_BIAS = 9,      // [kv_heads * head_dim]         optional
  KVRM_V_BIAS = 10,     // [kv_heads * head_dim]         optional
  KVRM_O_BIAS = 11,     // [hidden]                      optional
  KVRM_Q_NORM = 12,     // [head_dim]                    optional, with KVRM_K_NORM
  KVRM_K_NORM = 13,     // [head_dim]                    optional, with KVRM_Q_NORM
  KVRM_FFN_NORM = 14,   // [hidden]
  KVRM_GATE = 15,       // [intermediate, hidden]
  KVRM_UP = 16,         // [intermediate, hidden]
  KVRM_DOWN = 17,       // [hidden, intermediate]
  KVRM_ROLE_COUNT = 18
} kvrm_role;

// The records below are X-macros, so that the structs, the text of kvrm_layout() and the range
// checks cannot drift apart. F(type, name): type is u32, i32 or f32.

// One transformer of the Llama family: pre-norm, RoPE, GQA, SwiGLU. RoPE turns the pairs (i, i + head_dim / 2) of a
// head's numbers, or with rope_interleaved, as GGUF files of the llama architecture have the rows of Q and K (and
// their biases and norms), the pairs (2 i, 2 i + 1).
#define KVRM_MODEL_CONFIG_FIELDS(F)                                                             \
  F(u32, abi_version)                                                                           \
  F(u32, hidden)                                                                                \
  F(u32, intermediate)                                                                          \
  F(u32, layers)                                                                                \
  F(u32, heads)                                                                                 \
  F(u32, kv_heads)                                                                              \
  F(u32, head_dim)                                                                              \
  F(u32, vocab)                                                                                 \
  F(u32, max_position)                                                                          \
  F(f32, rms_eps)                                                                               \
  F(f32, attention_scale) /* usually 1/sqrt(head_dim) */                                        \
  F(u32, random_seed)     /* for tensors without a file */                                      \
  F(u32, quantize)        /* kvrm_quantize */                                                   \
  F(u32, device)          /* ordinal of the GPU; 0 on the CPU */                              \
  F(u32, rope_interleaved) /* 0 or 1 */

// One tensor. Row-major [rows, cols]; a vector is [n, 1]. file indexes the list of paths;
// KVRM_NO_FILE asks the library to make the tensor up (normal, std 0.02; norms 1): for benchmarks.
#define KVRM_NO_FILE 0xffffffffu
#define KVRM_TENSOR_FIELDS(F)                                                                   \
  F(u32, role)                                                                                  \
  F(u32, layer)                                                                                 \
  F(u32, dtype)                                                                                 \
  F(u32, file)                                                                                  \
  F(u32, offset_lo) /* bytes from the start of the file */                                      \
  F(u32, offset_hi)                                                                             \
  F(u32, rows)                                                                                  \
  F(u32, cols)

// ---------------------------------------------------------------------------------------------
// Engine

#define KVRM_ENGINE_NOOP 1u  // flags: steps compute nothing and sample a made-up token: for measuring
                             // everything around the step

#define KVRM_ENGINE_CONFIG_FIELDS(F)                                                            \
  F(u32, abi_version)                                                                           \
  F(u32, flags)                                                                                 \
  F(u32, slots)        /* S */                                                                  \
  F(u32, block_tokens) /* B: 16, 32 or 64 */                                                    \
  F(u32, num_blocks)                                                                            \
  F(u32, max_context)  /* tokens of one sequence; at most the model's max_position */           \
  F(u32, max_groups)   /* capacity of groups[], all slots together */                           \
  F(u32, max_segments) /* capacity of segments[] */                                             \
  F(u32, max_moves)    /* capacity of moves[] */                                                \
  F(u32, max_edits)    /* capacity of edits[]; 0: no penalties, no biases */                    \
  F(u32, mask_rows)    /* capacity of masks[]; 0: no token masks */                             \
  F(u32, host_blocks)  /* blocks of the host tier; 0: none */                                   \
  F(u32, kv_dtype)                                                                              \
  F(u32, threads)      /* 0: one per processor */                                               \
  F(u32, num_chunks)   /* mixed shapes: chunk sizes C, ascending */                             \
  F(u32, chunk0)                                                                                \
  F(u32, chunk1)                                                                                \
  F(u32, chunk2)                                                                                \
  F(u32, chunk3)                                                                                \
  F(u32, chunk4)                                                                                \
  F(u32, chunk5)                                                                                \
  F(u32, chunk6)                                                                                \
  F(u32, max_summaries) /* capacity of summaries[]; 0: no far history, no group of kind FAR */  \
  F(u32, far_rows)      /* F: summary rows of each slot, layer and KV head */

// What the engine decided, and where the sections of its records lie.
#define KVRM_ENGINE_INFO_FIELDS(F)                                                              \
  F(u32, descriptor_bytes)                                                                      \
  F(u32, slots_offset)                                                                          \
  F(u32, segments_offset)                                                                       \
  F(u32, tokens_offset)   /* i32[max chunk]: input ids of the chunk's rows */                   \
  F(u32, targets_offset)  /* i32[max chunk]: next id of each row, for prompt logprobs; else -1 */\
  F(u32, groups_offset)                                                                         \
  F(u32, moves_offset)                                                                          \
  F(u32, edits_offset)                                                                          \
  F(u32, masks_offset)    /* u32[mask_rows][mask_words] */                                      \
  F(u32, mask_words)      /* (vocab + 31) / 32 */                                               \
  F(u32, result_bytes)                                                                          \
  F(u32, result_slots_offset)                                                                   \
  F(u32, result_slot_tops_offset) /* kvrm_top[S][KVRM_MAX_TOP_LOGPROBS] */                      \
  F(u32, result_rows_offset)      /* kvrm_row_result[max chunk] */                              \
  F(u32, result_row_tops_offset)  /* kvrm_top[max chunk][KVRM_MAX_TOP_LOGPROBS] */              \
  F(u32, block_bytes)             /* of one block, all layers */                                \
  F(u32, arena_kib)               /* activations of the largest shape */                        \
  F(u32, threads)                                                                               \
  F(u32, shapes)                                                                                \
  F(u32, summaries_offset)                                                                      \
  F(u32, far_row_bytes)           /* of one summary row, all layers and KV heads */

// ---------------------------------------------------------------------------------------------
// Descriptor: header, slots[S], segments[max_segments], tokens[C], targets[C], groups[max_groups],
// moves[max_moves], edits[max_edits], masks[mask_rows][mask_words], summaries[max_summaries]; each section on
// a multiple of KVRM_SECTION_ALIGN; unused tails zero, except that unused rows of masks are never read.
//
// What a step does, in this order: moves; edits; summaries; then for every active row: embed, layers (write K
// and V, then attend), and, for rows that sample, final norm, head, sampling. Steps run in commit order.

#define KVRM_HEADER_FIELDS(F)                                                                   \
  F(u32, magic)                                                                                 \
  F(u32, abi_version)                                                                           \
  F(u32, step)          /* 1, 2, 3, ... */                                                      \
  F(u32, shape)         /* 0: decode[S]; i: mixed[S, chunk(i-1)] */                             \
  F(u32, flags)         /* 0 */                                                                 \
  F(u32, num_decode)    /* slots with KVRM_SLOT_DECODE */                                       \
  F(u32, num_segments)                                                                          \
  F(u32, num_tokens)    /* rows of the chunk in use, the sum of the segments' counts */         \
  F(u32, num_groups)                                                                            \
  F(u32, num_moves)                                                                             \
  F(u32, num_edits)                                                                             \
  F(u32, num_masks)     /* rows of masks[] in use */                                            \
  F(u32, padded_window) /* 0, or tokens that attention is padded to: see padding below */       \
  F(u32, num_summaries)                                                                         \
  F(u32, reserved2)                                                                             \
  F(u32, reserved3)

// Padding is work that a static graph does besides, and that never shows in a result; it is here so that such
// executors can be measured against, through the same record.
//  - With padded_window the attention of each decoding slot is computed over tokens [0, padded_window), in a layer
//    with a sliding window over as many of them as it spans; what lies beyond kv_len is masked. Groups reach to the
//    block of padded_window - 1, and there are no segments.
//  - The last `padding` rows of a segment go through the layers like any other and write K and V, but kv_len does
//    not count them, and they neither sample nor report.

#define KVRM_SLOT_DECODE 1u      // one input token this step, and one sample
#define KVRM_SLOT_PREFILL 2u     // its rows are one segment of the chunk
#define KVRM_SLOT_TOKEN_LAST 4u  // with DECODE: the input is the slot's last sample, token is ignored
#define KVRM_SLOT_SAMPLE 8u      // with PREFILL: sample after the segment's last row before its padding
#define KVRM_SLOT_ADJUST 16u     // with a sample and max_edits: penalties and biases apply, and the sampled
                                 // token is counted

// A slot is idle (flags 0, all other fields 0), decodes or prefills. For a prefilling slot position
// is that of the segment's first row. kv_len counts the tokens in KV after this step. The groups of
// a slot are groups[group_first .. group_first + group_count).
#define KVRM_SLOT_FIELDS(F)                                                                     \
  F(u32, flags)                                                                                 \
  F(i32, token)                                                                                 \
  F(u32, position)                                                                              \
  F(u32, kv_len)                                                                                \
  F(u32, write_block)  /* physical block of the row at position (first row of a segment) */     \
  F(u32, write_offset) /* position % B */                                                       \
  F(u32, group_first)                                                                           \
  F(u32, group_count)                                                                           \
  F(f32, temperature)  /* 0: greedy */                                                          \
  F(u32, top_k)        /* 0: off */                                                             \
  F(f32, top_p)        /* 1: off */                                                             \
  F(f32, min_p)        /* 0: off */                                                             \
  F(u32, seed_lo)                                                                               \
  F(u32, seed_hi)                                                                               \
  F(u32, counter)      /* index of the sampled token in its request: the random number's key */ \
  F(u32, logprobs)     /* 0: none; 1 + n: the sampled token's and the n best */                 \
  F(f32, repetition_penalty) /* more than 0, 1: off; without ADJUST 0, as the two after it */   \
  F(f32, presence_penalty)   /* 0: off */                                                       \
  F(f32, frequency_penalty)  /* 0: off */                                                       \
  F(u32, mask)         /* 0: every token; 1 + i: those whose bits are set in masks[i]; bit t % 32 */\
                       /* of word t / 32 is token t's; needs a sample */                       \
  F(f32, top_n_sigma)  /* 0: off; see the draw below, as for the five after it */               \
  F(f32, typical_p)    /* 0: off, else at most 1 */                                             \
  F(f32, xtc_probability)   /* 0: off, at most 1 */                                             \
  F(f32, xtc_threshold)     /* within 0..1 */                                                   \
  F(f32, dynatemp_range)    /* 0: off */                                                        \
  F(f32, dynatemp_exponent) /* at least 0 */                                                    \
  F(u32, mirostat)     /* 0: off; its version, 1 or 2: see below */                             \
  F(f32, mirostat_mu)  /* bits, finite; 0 without mirostat */

// The draw of a slot with a temperature, among what penalties, biases and the mask have left, in this order:
//   top_n_sigma        logits of at least max - top_n_sigma * their standard deviation stay
//   top_k              the k best stay; ties go to the lower id, here and below
//   typical_p          the fewest tokens stay whose surprises, -log of their probabilities, lie nearest to the
//                      entropy and that have more than typical_p together
//   top_p, min_p       of the distribution at `temperature`, min_p of what top_p left
//   xtc                in a share of xtc_probability of the draws: of the tokens with a probability of at least
//                      xtc_threshold, where there are two or more, the least probable one alone stays
//   dynatemp           the temperature becomes low + (high - low) * (entropy / log(tokens left)) ^ dynatemp_exponent,
//                      with low = max(0, temperature - dynatemp_range) and high = temperature + dynatemp_range
// Probabilities and entropies of typical_p, xtc and dynatemp are those at temperature 1 of what is left by then.
// With mirostat none of these acts but the temperature. At that temperature, of what penalties, biases and mask leave:
//   version 2          tokens of a surprise, -log2 of the probability, of at most mirostat_mu stay
//   version 1          the k best stay, k = ((s - 1) * 2^mirostat_mu / (1 - vocab^(1 - s)))^(1 / s), rounded down;
//                      s, the exponent of Zipf's law, is fitted to the 100 best: common/samplers.h
// and the best one at least. The caller makes mirostat_mu of the surprises that results tell.
// Two random numbers, of the seed and the counter, decide: one the draw, one whether XTC acts. With temperature 0
// none of this matters: the best token is taken.

#define KVRM_SEGMENT_PROMPT_LOGPROBS 1u  // report every row's target under the row's distribution

// Rows token_first .. token_first + count of the chunk belong to slot, at consecutive positions.
#define KVRM_SEGMENT_FIELDS(F)                                                                  \
  F(u32, slot)                                                                                  \
  F(u32, token_first)                                                                           \
  F(u32, count)                                                                                 \
  F(u32, position)                                                                              \
  F(u32, flags)                                                                                 \
  F(u32, top_logprobs) /* alternatives per row, with PROMPT_LOGPROBS */                         \
  F(u32, padding)      /* rows of count, the last ones, that are no tokens of the slot */       \
  F(u32, reserved1)

#define KVRM_GROUP_EXACT 0u  // kind: exact K and V
#define KVRM_GROUP_FAR 1u    // kind: the slot's summary rows 0 .. count, in place of blocks

// A transfer group: count physically adjacent blocks that hold logically adjacent blocks. A slot's
// groups are ascending, without gaps or overlaps, and reach to the block of kv_len - 1, or of its padding. They start at
// logical block 0, or, when every layer has a sliding window, at or before the block of the first
// token that the row at position can still see through the widest window.
//
// One group of a slot, not its last, may be FAR: it stands for the blocks from logical_start up to the next
// group's, which reaches back to the block of position or further. The step's rows see the summary rows
// instead of those blocks; count 0: nothing of them. physical_start is 0, and count at most the rows that the
// slot has. Every row of the slot in this step sees the same summary rows.
#define KVRM_GROUP_FIELDS(F)                                                                    \
  F(u32, slot_kind) /* slot | kind << 16 */                                                     \
  F(u32, logical_start)                                                                         \
  F(u32, physical_start)                                                                        \
  F(u32, count)

#define KVRM_TIER_POOL 0u
#define KVRM_TIER_HOST 1u  // host_blocks blocks in the host's memory, never read by attention

// Copies count blocks before the step reads or writes any. Destinations of one step overlap neither
// each other nor any source.
#define KVRM_MOVE_FIELDS(F)                                                                     \
  F(u32, tiers) /* from tier | to tier << 16; not host to host */                                \
  F(u32, from)                                                                                  \
  F(u32, to)                                                                                    \
  F(u32, count)

// The token state of a slot is what penalties and biases are made of: for each token whether the prompt
// has it and how often the answer has it (up to KVRM_MAX_COUNT, where counting stops), and up to
// KVRM_MAX_BIASES biases. It lives in the engine, empty at first; edits change it before the step samples.
// With ADJUST the logits are changed so, each operation rounded to f32, in this order:
//   in the prompt or the answer:  logit > 0 ? logit / repetition : logit * repetition
//   count times in the answer:    logit - frequency * count, and - presence where count > 0
//   biased:                       logit + bias
// and then, ADJUST or not, tokens that the mask forbids become -inf. Where no token is left (or every
// logit is NaN or -inf) token 0 is sampled. Log-probabilities are those of the unchanged logits.
//
// Edits are sorted by slot; the slot may be idle. CLEAR comes first of its slot's edits in a step. A token
// is biased once between two CLEARs.
#define KVRM_EDIT_CLEAR 0u   // kind: forget the slot's counts and biases, with value 1 its biases alone; token 0
#define KVRM_EDIT_PROMPT 1u  // the prompt has the token; value 0
#define KVRM_EDIT_COUNT 2u   // the answer has the token value times more, 1 to KVRM_MAX_COUNT
#define KVRM_EDIT_BIAS 3u    // value: the bias, as the bits of a finite f32, or of -inf: never

#define KVRM_EDIT_FIELDS(F)                                                                     \
  F(u32, slot_kind) /* slot | kind << 16 */                                                     \
  F(i32, token)                                                                                 \
  F(u32, value)                                                                                 \
  F(u32, reserved0)

// Summary rows stand for exact K and V that are given up, for all layers and KV heads of a slot. For each
// dimension a row has the means of K and V, the variance, least and greatest value of K, and it has the number
// m of its tokens. Under a query q it scores
//   min(scale * q.mean + scale^2 / 2 * sum_j q_j^2 variance_j,  scale * sum_j max(q_j least_j, q_j greatest_j))
//   + log m
// and takes part in the softmax with the mean of V. csrc/common/far_summary.h has the arithmetic.
//
// The rows live in the engine; a slot has none at first. The operations of a step run in their order, after
// its moves and before it writes K or V. The slot may be idle.
#define KVRM_SUMMARY_CLEAR 0u  // kind: the slot has no rows; all other fields 0
#define KVRM_SUMMARY_BLOCK 1u  // row, one the slot has or the next, becomes the summary of tokens of block source
#define KVRM_SUMMARY_MERGE 2u  // row stands also for what row source stands for, which stays; tokens 0

#define KVRM_SUMMARY_FIELDS(F)                                                                  \
  F(u32, slot_kind) /* slot | kind << 16 */                                                     \
  F(u32, row)                                                                                   \
  F(u32, source)                                                                                \
  F(u32, tokens)    /* of the block: first | count << 16 */

// ---------------------------------------------------------------------------------------------
// Result: header, slots[S], tops[S][20], rows[C], row tops[C][20].

#define KVRM_RESULT_HEADER_FIELDS(F)                                                            \
  F(u32, magic)                                                                                 \
  F(u32, step)                                                                                  \
  F(u32, status)      /* kvrm_status of the step itself */                                      \
  F(u32, exec_us)     /* running */                                                             \
  F(u32, wait_us)     /* from commit to start */                                                \
  F(u32, num_rows)    /* rows with prompt logprobs, from the chunk's first row on */            \
  F(u32, moved_blocks)                                                                          \
  F(u32, rows)        /* rows computed */

#define KVRM_RESULT_SAMPLED 1u

#define KVRM_SLOT_RESULT_FIELDS(F)                                                              \
  F(u32, flags)                                                                                 \
  F(i32, token)                                                                                 \
  F(f32, logprob) /* natural logarithm, of the distribution before temperature and filters */   \
  F(u32, num_tops)                                                                              \
  F(f32, surprise) /* with mirostat: in bits, of the distribution that was drawn from; else 0 */

#define KVRM_ROW_RESULT_FIELDS(F)                                                               \
  F(u32, flags)   /* KVRM_RESULT_SAMPLED where the row has a target */                          \
  F(f32, logprob) /* of the target */                                                           \
  F(u32, num_tops)                                                                              \
  F(u32, reserved0)

#define KVRM_TOP_FIELDS(F)                                                                      \
  F(i32, token)                                                                                 \
  F(f32, logprob)

// ---------------------------------------------------------------------------------------------

typedef uint32_t kvrm_u32;
typedef int32_t kvrm_i32;
typedef float kvrm_f32;
#define KVRM_FIELD_(type, name) kvrm_##type name;
typedef struct kvrm_model_config { KVRM_MODEL_CONFIG_FIELDS(KVRM_FIELD_) } kvrm_model_config;
typedef struct kvrm_tensor { KVRM_TENSOR_FIELDS(KVRM_FIELD_) } kvrm_tensor;
typedef struct kvrm_engine_config { KVRM_ENGINE_CONFIG_FIELDS(KVRM_FIELD_) } kvrm_engine_config;
typedef struct kvrm_engine_info { KVRM_ENGINE_INFO_FIELDS(KVRM_FIELD_) } kvrm_engine_info;
typedef struct kvrm_header { KVRM_HEADER_FIELDS(KVRM_FIELD_) } kvrm_header;
typedef struct kvrm_slot { KVRM_SLOT_FIELDS(KVRM_FIELD_) } kvrm_slot;
typedef struct kvrm_segment { KVRM_SEGMENT_FIELDS(KVRM_FIELD_) } kvrm_segment;
typedef struct kvrm_group { KVRM_GROUP_FIELDS(KVRM_FIELD_) } kvrm_group;
typedef struct kvrm_move { KVRM_MOVE_FIELDS(KVRM_FIELD_) } kvrm_move;
typedef struct kvrm_edit { KVRM_EDIT_FIELDS(KVRM_FIELD_) } kvrm_edit;
typedef struct kvrm_summary { KVRM_SUMMARY_FIELDS(KVRM_FIELD_) } kvrm_summary;
typedef struct kvrm_result_header { KVRM_RESULT_HEADER_FIELDS(KVRM_FIELD_) } kvrm_result_header;
typedef struct kvrm_slot_result { KVRM_SLOT_RESULT_FIELDS(KVRM_FIELD_) } kvrm_slot_result;
typedef struct kvrm_row_result { KVRM_ROW_RESULT_FIELDS(KVRM_FIELD_) } kvrm_row_result;
typedef struct kvrm_top { KVRM_TOP_FIELDS(KVRM_FIELD_) } kvrm_top;
#undef KVRM_FIELD_

// Counters of kvrm_counters(), as float64, in this order.
typedef enum kvrm_counter {
  KVRM_COUNT_STEPS = 0,
  KVRM_COUNT_ROWS = 1,
  KVRM_COUNT_MOVED_BLOCKS = 2,
  KVRM_COUNT_BUSY_US = 3,          // time in steps
  KVRM_COUNT_SHAPES_PREPARED = 4,  // op lists planned or graphs captured since creation
  KVRM_COUNT_GROUPS = 5,           // groups read
  KVRM_COUNT_HOST_BLOCKS = 6,      // blocks moved from or to the host tier, also counted as moved
  KVRM_COUNT_SUMMARIES = 7,        // operations of summaries[]
  KVRM_COUNTER_COUNT = 8
} kvrm_counter;

#define KVRM_API __attribute__((visibility("default")))

// Returns KVRM_ABI_VERSION.
KVRM_API uint32_t kvrm_abi_version(void);

// Writes "backend/target" of this library, e.g. "cpu/AVX3_SPR", as UTF-8; returns its length in bytes.
KVRM_API uint32_t kvrm_backend(uint8_t* out, uint32_t capacity);

// Writes the last error's message of the calling thread as UTF-8, cut at capacity; returns the length.
KVRM_API uint32_t kvrm_last_error(uint8_t* out, uint32_t capacity);

// Writes one line for each field of each record, "record.field offset type\n", and for each record
// "record size N\n", and for each constant above "NAME = value\n"; returns the length needed, which
// may exceed capacity (then nothing is written).
KVRM_API uint32_t kvrm_layout(uint8_t* out, uint32_t capacity);

// Maps the files and checks the tensor table against the configuration.
//   config         kvrm_model_config
//   tensors        kvrm_tensor[num_tensors]
//   paths          NUL-terminated UTF-8 strings, one after another, paths_bytes in all
//   inv_freq       f32[head_dim / 2]: RoPE's inverse frequencies, scaling already applied
//   layer_windows  u32[layers]: sliding window in tokens (a row sees itself and window - 1 before
//                  it), 0 for full attention
//   model          out: u32, the handle
KVRM_API int32_t kvrm_model_load(const uint8_t* config, const uint8_t* tensors, uint32_t num_tensors,
                                 const uint8_t* paths, uint32_t paths_bytes, const float* inv_freq,
                                 const uint32_t* layer_windows, uint32_t* model);

// Bytes of the running kvrm_model_load of this process: out[0] done, out[1] all; both 0 when none runs.
// For any thread, while another one loads.
KVRM_API int32_t kvrm_load_progress(double* out);

// Memory that KV pools come from: out[0] free now, out[1] all, in bytes. On a GPU the model's device.
KVRM_API int32_t kvrm_memory(uint32_t model, double* out);

// Frees a model. Refused (KVRM_BUSY) while an engine uses it.
KVRM_API int32_t kvrm_model_free(uint32_t model);

// Allocates the KV pool and the arena, plans every shape, starts the threads.
//   config  kvrm_engine_config;  info  out: kvrm_engine_info;  engine  out: u32, the handle
KVRM_API int32_t kvrm_engine_create(uint32_t model, const uint8_t* config, uint8_t* info, uint32_t* engine);

// Waits for steps in flight, stops the threads, frees everything.
KVRM_API int32_t kvrm_engine_destroy(uint32_t engine);

// Checks the whole descriptor and enqueues it, or refuses it and changes nothing. The buffer may be
// reused at once. bytes must be the engine's descriptor_bytes.
KVRM_API int32_t kvrm_commit(uint32_t engine, const uint8_t* descriptor, uint32_t bytes);

// Waits up to timeout_us for the oldest step whose result was not taken, and takes it.
// KVRM_TIMEOUT: still running. KVRM_EMPTY: nothing in flight. bytes must be at least result_bytes;
// rows and row tops are written only when the step had prompt logprobs.
KVRM_API int32_t kvrm_wait(uint32_t engine, uint32_t timeout_us, uint8_t* result, uint32_t bytes);

// Copies blocks first .. first + count out of or into the pool (block_bytes each, in the pool's own
// layout). Only while no step is in flight.
KVRM_API int32_t kvrm_export_blocks(uint32_t engine, uint32_t first, uint32_t count, uint8_t* out,
                                    uint32_t bytes);
KVRM_API int32_t kvrm_import_blocks(uint32_t engine, uint32_t first, uint32_t count, const uint8_t* in,
                                    uint32_t bytes);

// Copies the logits (f32[vocab]) of a slot that sampled in the last step. Only while no step is in
// flight. For tests and debugging.
KVRM_API int32_t kvrm_read_logits(uint32_t engine, uint32_t slot, float* out, uint32_t count);

// Writes up to count of the counters above.
KVRM_API int32_t kvrm_counters(uint32_t engine, double* out, uint32_t count);

// Reads a buffer of mib MiB repeat times with that many threads and gives the best rate in GB/s: the
// limit that decoding at batch 1 is measured against.
KVRM_API int32_t kvrm_measure_bandwidth(uint32_t threads, uint32_t mib, uint32_t repeat, double* gb_per_s);

#ifdef __cplusplus
}
#endif
#endif  // KVRM_H_
