// SPDX-License-Identifier: LGPL-2.1-or-later
// floor DIRECTORY MATCH...: the least that reading a journal costs: each entry's MESSAGE, in C. A match "+" is an OR,
// as in journalctl(1). Prints how many entries there were and the CPU time of reading them in nanoseconds.
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-journal.h>
#include <time.h>

static int64_t cpu(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static int fail(const char *what, int error) {
    fprintf(stderr, "floor: %s: %s\n", what, strerror(-error));
    return 1;
}

int main(int argc, char **argv) {
    sd_journal *journal;
    int r = argc < 2 ? -EINVAL : sd_journal_open_directory(&journal, argv[1], 0);
    if (r < 0)
        return fail("cannot open the journal", r);
    for (int i = 2; i < argc; i++) {
        r = strcmp(argv[i], "+") ? sd_journal_add_match(journal, argv[i], 0) : sd_journal_add_disjunction(journal);
        if (r < 0)
            return fail(argv[i], r);
    }

    int64_t before = cpu();
    uint64_t entries = 0, bytes = 0;
    while ((r = sd_journal_next(journal)) > 0) {
        const void *data;
        size_t size;
        r = sd_journal_get_data(journal, "MESSAGE", &data, &size);
        if (r == -ENOENT)
            continue;
        if (r < 0)
            return fail("cannot read an entry", r);
        entries++;
        bytes += size;
    }
    int64_t after = cpu();
    if (r < 0)
        return fail("cannot read the next entry", r);
    printf("%llu %lld\n", (unsigned long long) entries, (long long) (after - before));
    sd_journal_close(journal);
    return bytes == 0 && entries > 0;
}
