/*
 * replay.c
 *		The part of libFuzzer that "sh test/check" needs: runs a target on the
 *		files of a corpus, and on so many inputs that are made of them.
 *
 * Arguments: how many inputs to make, then folders.  The inputs depend on the
 * corpus and on nothing else.  The last one is kept in the file that FUZZ_LAST
 * names, so that it is there when the program is ended by it.
 */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/pg_prng.h"

#define MAX_FILES	4096
#define LONGEST	(1024 * 1024)

typedef struct Sample
{
	uint8	   *bytes;
	size_t		len;
} Sample;

static Sample samples[MAX_FILES];
static int	nsamples = 0;
static uint8 *last = NULL;		/* the input at hand, behind its length */
static pg_prng_state chance;

static uint32
below(uint32 n)
{
	return n > 0 ? (uint32) pg_prng_uint64_range(&chance, 0, n - 1) : 0;
}

static void
read_sample(const char *folder, const char *name)
{
	char		path[1024];
	FILE	   *file;
	Sample	   *sample = &samples[nsamples];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "rb");
	if (file == NULL || nsamples == MAX_FILES)
	{
		fprintf(stderr, "could not read %s\n", path);
		exit(2);
	}
	sample->bytes = malloc(LONGEST);
	sample->len = fread(sample->bytes, 1, LONGEST, file);
	sample->bytes = realloc(sample->bytes, sample->len + 1);
	fclose(file);
	nsamples++;
}

static void
read_folder(const char *folder)
{
	struct dirent **entries;
	int			n = scandir(folder, &entries, NULL, alphasort);

	if (n < 0)
	{
		fprintf(stderr, "could not read the folder %s\n", folder);
		exit(2);
	}
	for (int i = 0; i < n; i++)
	{
		if (entries[i]->d_name[0] != '.')
			read_sample(folder, entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
}

/* In memory of exactly its length. */
static void
run_input(const uint8 *bytes, size_t len)
{
	uint8	   *exact = malloc(len ? len : 1);

	if (last)
	{
		memcpy(last, &len, sizeof(len));
		memcpy(last + sizeof(len), bytes, len);
	}
	memcpy(exact, bytes, len);
	LLVMFuzzerTestOneInput(exact, len);
	free(exact);
}

/* ---------- mutation ---------- */

static size_t
put_bytes(uint8 *to, size_t len, size_t at, const uint8 *bytes, size_t n)
{
	n = Min(n, LONGEST - len);
	memmove(to + at + n, to + at, len - at);
	memcpy(to + at, bytes, n);
	return len + n;
}

static size_t
take_bytes(uint8 *from, size_t len, size_t at, size_t n)
{
	n = Min(n, len - at);
	memmove(from + at, from + at + n, len - at - n);
	return len - n;
}

static size_t
mutate(uint8 *bytes, size_t len)
{
	static const uint8 telling[] = {0, 1, 2, 3, 4, 5, 127, 128, 254, 255, '\r', '\n', ' ', '0', '9', '-',
	':', '$', '*', '+', '%', ',', '#', '=', '"', '\\'};
	const Sample *other = &samples[below(nsamples)];
	size_t		at = below(len + 1);
	size_t		from = below(other->len + 1);
	uint8		byte = telling[below(lengthof(telling))];

	switch (below(8))
	{
		case 0:
			return take_bytes(bytes, len, at, 1 + below(8));
		case 1:
			return take_bytes(bytes, len, at, len);
		case 2:
			return put_bytes(bytes, len, at, &byte, 1);
		case 3:					/* a piece of another, */
			return put_bytes(bytes, len, at, other->bytes + from,
							 1 + below(Min(other->len - from, 64)));
		case 4:					/* or all the rest of it */
			len = take_bytes(bytes, len, at, len);
			return put_bytes(bytes, len, at, other->bytes + from, other->len - from);
		case 5:					/* a piece again */
			{
				uint8		piece[32];
				size_t		n = Min(sizeof(piece), len - at);

				memcpy(piece, bytes + at, n);
				return put_bytes(bytes, len, at, piece, n);
			}
		case 6:
			if (at < len)
				bytes[at] ^= 1 << below(8);
			return len;
		default:
			if (at < len)
				bytes[at] = byte;
			return len;
	}
}

static void
open_last(const char *path)
{
	int			fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || ftruncate(fd, LONGEST + sizeof(size_t)) != 0 ||
		(last = mmap(NULL, LONGEST + sizeof(size_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
					 0)) == MAP_FAILED)
	{
		fprintf(stderr, "could not make %s\n", path);
		exit(2);
	}
	close(fd);
}

int
fuzz_main(int argc, char **argv)
{
	int			made = argc > 1 ? atoi(argv[1]) : 0;
	uint8	   *bytes = malloc(LONGEST);

	if (getenv("FUZZ_LAST"))
		open_last(getenv("FUZZ_LAST"));
	for (int i = 2; i < argc; i++)
		read_folder(argv[i]);
	if (nsamples == 0)
	{
		fprintf(stderr, "there is no corpus\n");
		return 2;
	}
	for (int i = 0; i < nsamples; i++)
		run_input(samples[i].bytes, samples[i].len);
	pg_prng_seed(&chance, 7);
	for (int i = 0; i < made; i++)
	{
		const Sample *sample = &samples[below(nsamples)];
		size_t		len = sample->len;

		memcpy(bytes, sample->bytes, len);
		for (uint32 n = 1 + below(4); n > 0; n--)
			len = mutate(bytes, len);
		run_input(bytes, len);
	}
	free(bytes);
	printf("%d inputs of the corpus, %d made of them\n", nsamples, made);
	return 0;
}
