import Foundation
import TestSupport

/// A machine's clock that a test sets, for programs that are started with `environment`. The monotonic clocks
/// stay what they are, as on a machine whose clock somebody sets.
struct BentClock: Sendable {
  private let library: String
  private let file: String

  /// Compiles the library that stands between the programs and the C library.
  init(in directory: TemporaryDirectory) async throws {
    let source = directory.file("clock.c")
    (library, file) = (directory.file("clock.so"), directory.file("offset"))
    try Data(Self.source.utf8).write(to: URL(fileURLWithPath: source))
    let arguments = ["clang", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"]
    _ = try await runTool("/usr/bin/env", arguments).expected()
    try set(aheadBy: 0)
  }

  var environment: [String: String] { ["LD_PRELOAD": library, "CLOCK_OFFSET_FILE": file] }

  func set(aheadBy seconds: Int) throws {
    try Data("\(seconds)\n".utf8).write(to: URL(fileURLWithPath: file), options: .atomic)
  }

  private static let source = """
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <sys/time.h>
    #include <time.h>

    static long long offset(void) {
      const char *path = getenv("CLOCK_OFFSET_FILE");
      FILE *file = path ? fopen(path, "re") : NULL;
      long long seconds = 0;
      if (file) {
        if (fscanf(file, "%lld", &seconds) != 1) seconds = 0;
        fclose(file);
      }
      return seconds;
    }

    int clock_gettime(clockid_t clock, struct timespec *out) {
      static int (*real)(clockid_t, struct timespec *);
      if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
      int result = real(clock, out);
      if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) out->tv_sec += offset();
      return result;
    }

    int gettimeofday(struct timeval *out, void *zone) {
      struct timespec now;
      clock_gettime(CLOCK_REALTIME, &now);
      out->tv_sec = now.tv_sec;
      out->tv_usec = now.tv_nsec / 1000;
      return 0;
    }

    time_t time(time_t *out) {
      struct timespec now;
      clock_gettime(CLOCK_REALTIME, &now);
      if (out) *out = now.tv_sec;
      return now.tv_sec;
    }
    """
}
