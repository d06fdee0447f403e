/* pi = integral of 4 / (1 + x^2) from 0 to 1, each rank a share of the intervals. Rank 0 sends a
 * token once round all ranks first, says on which hosts they are, and writes pi.txt.
 *
 *   mpi-pi [INTERVALS [SECONDS]]    SECONDS: how long each rank waits before it ends */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { NAME = MPI_MAX_PROCESSOR_NAME };

static int send_round(int rank, int ranks) {
  int token = 0;
  if (ranks == 1) return 0;
  if (rank == 0) MPI_Send(&token, 1, MPI_INT, 1, 0, MPI_COMM_WORLD);
  MPI_Recv(&token, 1, MPI_INT, (rank + ranks - 1) % ranks, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  token++;
  if (rank != 0) MPI_Send(&token, 1, MPI_INT, (rank + 1) % ranks, 0, MPI_COMM_WORLD);
  return token;
}

int main(int argc, char **argv) {
  long intervals = argc > 1 ? atol(argv[1]) : 10000000;
  int rank, ranks, length;
  char name[NAME] = "", *names = NULL;
  double sum = 0, pi = 0;

  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  MPI_Get_processor_name(name, &length);
  int passed = send_round(rank, ranks);
  for (long i = rank; i < intervals; i += ranks) {
    double x = (i + 0.5) / intervals;
    sum += 4 / (1 + x * x) / intervals;
  }
  MPI_Reduce(&sum, &pi, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
  if (rank == 0) names = malloc((size_t)ranks * NAME);
  MPI_Gather(name, NAME, MPI_CHAR, names, NAME, MPI_CHAR, 0, MPI_COMM_WORLD);
  if (rank == 0) {
    FILE *out = fopen("pi.txt", "w");
    printf("token passed by %d\n", passed);
    for (int i = 0; i < ranks; i++) printf("rank %d of %d on %s\n", i, ranks, names + (size_t)i * NAME);
    printf("pi %.9f\n", pi);
    fflush(stdout);
    if (out == NULL || fprintf(out, "%.9f\n", pi) < 0 || fclose(out) != 0) MPI_Abort(MPI_COMM_WORLD, 1);
    free(names);
  }
  if (argc > 2) sleep((unsigned)atoi(argv[2]));
  MPI_Barrier(MPI_COMM_WORLD);
  MPI_Finalize();
  return fabs(pi - 3.14159265358979) < 1e-6 || rank != 0 ? 0 : 1;
}
