/// Does together what several tasks want done: while one batch is under way the next one fills, so a lone job
/// waits for nobody and many jobs share what a batch costs, a round trip or an fsync.
actor Batcher<Job: Sendable, Answer: Sendable> {
  private struct Waiting {
    let job: Job
    let continuation: CheckedContinuation<Answer, any Error>
  }

  private let sizeMax: Int
  private let work: @Sendable ([Job]) async throws -> [Answer]
  private var waiting: [Waiting] = []
  private var isBusy = false

  /// - Parameter work: gives one answer per job, in order; what it throws is every job's.
  init(sizeMax: Int, _ work: @escaping @Sendable ([Job]) async throws -> [Answer]) {
    (self.sizeMax, self.work) = (sizeMax, work)
  }

  func submit(_ job: Job) async throws -> Answer {
    try await withCheckedThrowingContinuation { continuation in
      waiting.append(Waiting(job: job, continuation: continuation))
      guard !isBusy else { return }
      isBusy = true
      Task { await drain() }
    }
  }

  private func drain() async {
    while !waiting.isEmpty {
      let batch = Array(waiting.prefix(sizeMax))
      waiting.removeFirst(batch.count)
      do {
        let answers = try await work(batch.map(\.job))
        precondition(answers.count == batch.count, "a batch is answered job by job")
        for (entry, answer) in zip(batch, answers) { entry.continuation.resume(returning: answer) }
      } catch { for entry in batch { entry.continuation.resume(throwing: error) } }
    }
    isBusy = false
  }
}
