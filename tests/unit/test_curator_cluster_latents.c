#include "curator/cluster_latents.h"

#include "base/mem.h"
#include "tests/support/cmocka_headers.h"

/* Six rows of eight latents; row 5 is in no cluster. */
static const int64_t indptr[] = {0, 3, 5, 7, 9, 9, 11};
static const uint32_t indices[] = {0, 2, 7, 0, 2, 0, 3, 0, 3, 1, 2};
static const float values[] = {1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1};
static const uint32_t cluster[] = {0, 0, 2, 2, 2, UINT32_MAX};

static void what_is_on_everywhere_sets_nothing_apart(void **state)
{
    const struct csr_view x = {6, 8, indptr, indices, values};
    struct cluster_latents latents[3];

    (void)state;
    assert_int_equal(cluster_latents_find(latents, x, cluster, 3, NULL), STATUS_OK);
    /* Latent 7 is stored as zero, latent 1 fires outside of all clusters. */
    assert_int_equal(latents[0].n, 2);
    assert_int_equal(latents[0].items[0].latent, 2);
    assert_true(latents[0].items[0].within == 1 && latents[0].items[0].overall == 2.0 / 5);
    assert_int_equal(latents[0].items[1].latent, 0);
    assert_true(latents[0].items[1].within == 1 && latents[0].items[1].overall == 4.0 / 5);
    assert_int_equal(latents[1].n, 0);
    assert_int_equal(latents[2].n, 1);
    assert_int_equal(latents[2].items[0].latent, 3);
    assert_true(latents[2].items[0].within == 2.0 / 3);
}

static void few_are_kept_and_ties_go_to_the_lower_latent(void **state)
{
    const int64_t ends[] = {0, 8, 8};
    const uint32_t all[] = {0, 1, 2, 3, 4, 5, 6, 7};
    const float ones[] = {1, 1, 1, 1, 1, 1, 1, 1};
    const uint32_t of[] = {0, 1};
    const struct csr_view x = {2, 8, ends, all, ones};
    struct cluster_latents latents[2];

    (void)state;
    assert_int_equal(cluster_latents_find(latents, x, of, 2, NULL), STATUS_OK);
    assert_int_equal(latents[0].n, CLUSTER_LATENTS_MAX);
    for (uint32_t i = 0; i < CLUSTER_LATENTS_MAX; i++)
        assert_int_equal(latents[0].items[i].latent, i);
    assert_int_equal(latents[1].n, 0);
    /* No clusters, no rows. */
    assert_int_equal(cluster_latents_find(latents, x, of, 0, NULL), STATUS_OK);
    assert_int_equal(
        cluster_latents_find(latents, (struct csr_view){0, 8, ends, NULL, NULL}, NULL, 1, NULL),
        STATUS_OK);
    assert_int_equal(latents[0].n, 0);
}

static void cluster_latents_survive_failing_allocation(void **state)
{
    const struct csr_view x = {6, 8, indptr, indices, values};
    size_t n = 0;

    (void)state;
    do {
        struct cluster_latents latents[3];
        enum status st;

        mem_fail_after(n++);
        st = cluster_latents_find(latents, x, cluster, 3, NULL);
        assert_int_equal(st, mem_failed() ? STATUS_NOMEM : STATUS_OK);
        assert_int_equal(latents[2].n, st ? 0 : 1);
    } while (mem_failed());
    mem_fail_after(SIZE_MAX);
    assert_int_equal(n, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_on_everywhere_sets_nothing_apart),
        cmocka_unit_test(few_are_kept_and_ties_go_to_the_lower_latent),
        cmocka_unit_test(cluster_latents_survive_failing_allocation),
    };

    return cmocka_run_group_tests_name("curator/cluster_latents", tests, NULL, NULL);
}
