// Merges the results of parts of the keys: stands after sequence.h, in both dialects.
//
// A kernel whose keys are cut into SPLITS parts writes, for each of its rows and each part, also
// one without keys:
//
//   partial_out[partial_offset(r, part) * V_DIM + x]   sums of exp2(score - largest) v, not scaled
//   partial_sums[partial_offset(r, part) * 2]          the largest score of the part
//   partial_sums[partial_offset(r, part) * 2 + 1]      the sum of exp2(score - largest)
//
// with r = lse_offset(s, head, query). Where the sum is 0 the other two may be anything.
//
//   combine:  groups (elements of out / COMBINE_THREADS, 1, 1); writes out, and lse

#ifndef COMBINE_H
#define COMBINE_H

#ifndef SPLITS
#define SPLITS 2  // parts of the keys
#endif
#ifndef COMBINE_THREADS
#define COMBINE_THREADS 128  // work-items of a group, an element each
#endif

#define ROWS ((OFFSET)HEADS * TOTAL_Q)

FUNCTION size_t partial_offset(OFFSET row, int part) { return (size_t)row * SPLITS + part; }

// Where row `row` of the partial results, numbered as lse is, begins in the output.
FUNCTION OFFSET combined_offset(OFFSET row)
{
    if (PACKED) return row / TOTAL_Q * OUT_HEAD_STRIDE + row % TOTAL_Q * OUT_ROW_STRIDE;
    return row / Q_LEN / HEADS * OUT_BATCH_STRIDE + row / Q_LEN % HEADS * OUT_HEAD_STRIDE +
           row % Q_LEN * OUT_ROW_STRIDE;
}

KERNEL GROUP_SIZE(COMBINE_THREADS, 1, 1) void combine(
    GLOBAL const float *RESTRICT partial_out,
    GLOBAL const float *RESTRICT partial_sums INPUT_PARAMETERS,
    GLOBAL STORED *RESTRICT out LSE_PARAMETER)
{
    const OFFSET element = (OFFSET)GROUP_ID(0) * COMBINE_THREADS + LOCAL_ID(0);
    const OFFSET row = element / V_DIM;
    const int column = element % V_DIM;
    if (row >= ROWS) return;
#if PACKED
    if (row % TOTAL_Q >= q_offsets[BATCH]) return;  // no sequence has this row
#endif
    GLOBAL const float *sums = partial_sums + partial_offset(row, 0) * 2;
    GLOBAL const float *values = partial_out + partial_offset(row, 0) * V_DIM + column;
    float largest = MINUS_INFINITY;
#pragma unroll 32  // as a rule all, so that their loads are under way together
    for (int part = 0; part < SPLITS; part++) {
        const float score = sums[2 * part], weights = sums[2 * part + 1];
        largest = weights > 0.0f && score > largest ? score : largest;
    }
    float sum = 0.0f, value = 0.0f;
#pragma unroll 32
    for (int part = 0; part < SPLITS; part++) {
        const float weights = sums[2 * part + 1];
        const float share = weights > 0.0f ? EXP2(sums[2 * part] - largest) : 0.0f;
        sum += share > 0.0f ? share * weights : 0.0f;
        value += share > 0.0f ? share * values[(size_t)part * V_DIM] : 0.0f;
    }
    out[combined_offset(row) + column] =
        FLOAT_TO_STORED(sum > 0.0f ? value * VALUE_FACTOR / sum : 0.0f);
#if LSE
    if (column == 0) lse[row] = natural_lse(largest, sum);
#endif
}

#endif
