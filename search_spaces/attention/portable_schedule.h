// The schedule of portable.cl, with a default for each knob, and what follows from it. Stands after
// sequence.h.

#ifndef PORTABLE_SCHEDULE_H
#define PORTABLE_SCHEDULE_H

// ---- The schedule

#ifndef BLOCK_Q
#define BLOCK_Q 32  // rows of a work-group
#endif
#ifndef BLOCK_K
#define BLOCK_K 32  // keys of a step
#endif
#ifndef THREADS_Q
#define THREADS_Q 8  // work-items along the rows
#endif
#ifndef THREADS_K
#define THREADS_K 8  // work-items along the keys, and along the columns of the output
#endif
#ifndef VECTOR
#define VECTOR 1  // elements in one global access: 1, 2 or 4
#endif
#ifndef LANES
#define LANES 4  // elements in one local access, and neighbouring columns owned: 1, 2 or 4
#endif
#ifndef PAD
#define PAD 1  // 1: unused elements after rows of Q, K and weights, against bank conflicts
#endif
#ifndef KV_TILES
#define KV_TILES 1  // 1: V takes K's place in local memory, for two more barriers; 2: beside it
#endif
#ifndef PREFETCH
#define PREFETCH 0  // 1: fetch the next tile before multiplying by this one; costs registers
#endif
#ifndef WEIGHTS_LOCAL
#define WEIGHTS_LOCAL 1  // 0: weights stay in registers, where a work-item has whole rows
#endif
#ifndef SHUFFLE
#define SHUFFLE 0  // 1: maxima between lanes of a warp, where the language has that
#endif
#ifndef UNROLL
#define UNROLL 1  // steps of LANES along the head unrolled
#endif
#ifndef PACK_HEADS
#define PACK_HEADS 0  // 1: rows are the queries of all heads that share K and V
#endif
#ifndef LONGEST_FIRST
#define LONGEST_FIRST 0  // 1: the last queries of all heads first, which see most keys
#endif
#ifndef SPLITS
#define SPLITS 1  // parts of the keys, each computed by other work-groups
#endif

// ---- What follows from these

#define THREADS (THREADS_Q * THREADS_K)
#define ROW_HEADS (PACK_HEADS ? HEADS_PER_KV_HEAD : 1)  // heads of neighbouring rows
#define TILES ((Q_LEN * ROW_HEADS + BLOCK_Q - 1) / BLOCK_Q)  // of the longest sequence
#define TILE_HEADS (HEADS / ROW_HEADS)
#define THREAD_Q (BLOCK_Q / THREADS_Q)  // rows of a work-item
#define THREAD_K (BLOCK_K / THREADS_K)  // keys
#define RUNS ((V_DIM + LANES * THREADS_K - 1) / (LANES * THREADS_K))  // of columns
#define THREAD_V (RUNS * LANES)
#define WHOLE_RUNS (V_DIM % (LANES * THREADS_K) == 0)  // whether all of them are of the output
#define ROUNDED(x) (((x) + LANES - 1) / LANES * LANES)
#define PITCH_D (ROUNDED(HEAD_DIM) + PAD * LANES)  // of rows of Q and K in local memory
#define PITCH_V ROUNDED(V_DIM)
#define PITCH_W (BLOCK_K + PAD * (THREADS_K > LANES ? THREADS_K : LANES))  // of rows of weights
#define TILE_K (BLOCK_K * PITCH_D)
#define TILE_V ((BLOCK_K - 1) * PITCH_V + RUNS * LANES * THREADS_K)  // read to the end of the runs
#define TILES_KV (KV_TILES == 2 ? TILE_K + TILE_V : TILE_K > TILE_V ? TILE_K : TILE_V)
#define TILE_W (WEIGHTS_LOCAL ? BLOCK_Q * PITCH_W : 0)
#define WIDTH (VECTOR < LANES ? VECTOR : LANES)  // elements of a piece in one local access
#define PIECES_K (BLOCK_K * (HEAD_DIM / VECTOR))
#define PIECES_V (BLOCK_K * (V_DIM / VECTOR))
#define STAGED_K ((PIECES_K + THREADS - 1) / THREADS)
#define STAGED_V ((PIECES_V + THREADS - 1) / THREADS)
#define STAGED (STAGED_K > STAGED_V ? STAGED_K : STAGED_V)
#define LOWEST (-3.0e38f)  // below every score, but finite: exp2(-infinity - LOWEST) is 0

#ifdef __OPENCL_VERSION__
#define LARGER(x, y) max(x, y)
#define SHUFFLES 0
#else
#define LARGER(x, y) fmaxf(x, y)
#define SHUFFLES (SHUFFLE && THREADS_K > 1)
#define OTHER_LANE(x, step) __shfl_xor_sync(0xFFFFFFFF, x, step)
#endif
#define REDUCE_LOCAL (THREADS_K > 1 && !SHUFFLES)
#define LOCAL_FLOATS \
    (BLOCK_Q * PITCH_D + TILES_KV + TILE_W + (REDUCE_LOCAL ? BLOCK_Q * THREADS_K : 0))

#endif
