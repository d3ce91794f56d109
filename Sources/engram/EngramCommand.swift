internal import ArgumentParser
internal import EngramClient

/// The client's command line: one account per home folder.
@main
struct EngramCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "engram",
    abstract: "Send and receive messages that only the other end can read.",
    discussion: """
      A client belongs to one node, which its organisation runs, and writes to clients of any node that \
      federates with it. Messages are sealed and signed on this machine; nodes carry them and cannot read \
      them.

      Start with the invite that your node's administrator gives you:
        engram init --node node.acme.example:7443 --ca ca.pem --invite TOKEN
        engram send --to worker@globex.example --text "hello"
        engram inbox --ack

      Exit codes:
         0  done
         1  this machine could not do it: home, key file, disk
         3  the node cannot be reached, or says "not now"; nothing was kept
         4  the node refused
         5  trust: an identity changed, or something did not verify
         6  kept here, not with the node yet; a later command sends it
         7  sent, but --wait-processed saw a device fail or ran out of time
        64  the command line or an input is wrong

      Errors go to standard error: a sentence, and a hint where there is something to do; with --json one \
      object, {"error":{"code":…,"hint":…,"message":…,"name":…}}.

      Completion for your shell: engram --generate-completion-script bash (zsh, fish).
      """,
    version: engramVersion,
    subcommands: [
      InitCommand.self, SendCommand.self, ReplyCommand.self, InboxCommand.self, ThreadCommand.self,
      SearchCommand.self, HistoryCommand.self, ScheduleCommand.self, OutboxCommand.self, StatusCommand.self,
      CancelCommand.self,
      ReceiptsCommand.self, VerifyCommand.self, TopicCommand.self, AgentsCommand.self, HeartbeatCommand.self,
      WorkCommand.self, QueueCommand.self, GapsCommand.self, TemplateCommand.self, ImportCommand.self,
      ExportCommand.self, WatchCommand.self, TrustCommand.self, DirectoryCommand.self, AlarmsCommand.self,
      WhoamiCommand.self, DeviceCommand.self,
    ])

  static func main() async {
    do {
      var command = try parseAsRoot()
      if var asynchronous = command as? any AsyncParsableCommand {
        try await asynchronous.run()
      } else {
        try command.run()
      }
    } catch let error as EngramError {
      report(ErrorForm(error))
      exit(withError: ExitCode(ExitStatus(error).rawValue))
    } catch let failure as CommandFailure {
      report(failure.form)
      exit(withError: ExitCode(failure.status.rawValue))
    } catch {
      // Help and the version are no errors, and what a command has said itself is not said again.
      let isUsage = !(error is ExitCode) && exitCode(for: error) == .validationFailure
      guard wantsJSON, isUsage else { exit(withError: error) }
      report(ErrorForm(name: "usage", message(for: error), hint: "--help shows what there is"))
      exit(withError: ExitCode.validationFailure)
    }
  }
}

let engramVersion = "0.1.0"

/// What the shell learns. Documented in the help text; numbers do not change.
enum ExitStatus: Int32 {
  case done = 0
  case failed = 1
  case unreachable = 3
  case refused = 4
  case untrusted = 5
  case keptForLater = 6
  case notProcessed = 7
  case usage = 64

  init(_ error: EngramError) {
    self =
      switch error.kind {
      case .badInput: .usage
      case .local: .failed
      case .refused: .refused
      case .unreachable: .unreachable
      case .untrusted: .untrusted
      }
  }
}
