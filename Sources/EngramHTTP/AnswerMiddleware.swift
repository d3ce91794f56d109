import EngramCore
import HTTPTypes
import Hummingbird
import HummingbirdCore
import Logging
import NIOHTTP1

/// Turns whatever a route threw into a problem document, and counts and logs the request. Log lines name the
/// route's pattern, never the path, which holds addresses.
struct AnswerMiddleware<Context: RequestContext>: RouterMiddleware {
  let metrics: HTTPMetrics
  let log: Logger

  func handle(
    _ request: Request, context: Context, next: (Request, Context) async throws -> Response
  ) async throws -> Response {
    let start = ContinuousClock.now
    var code = ErrorCode.none
    let response: Response
    do {
      response = try await next(request, context)
    } catch let error as HTTPParserError {
      // The connection's guard has answered.
      throw error
    } catch {
      let problem = problem(for: error)
      code = problem.code
      response = problem.response
    }
    let elapsed = (ContinuousClock.now - start).components
    let microseconds = UInt64(elapsed.seconds) * 1_000_000 + UInt64(elapsed.attoseconds / 1_000_000_000_000)
    let route = context.endpointPath ?? "none"
    metrics.request(
      method: request.method.rawValue, route: route, status: response.status.code, microseconds: microseconds)
    log.log(
      level: response.status.code >= 500 ? .warning : .debug, "request",
      metadata: [
        "method": "\(request.method.rawValue)", "route": "\(route)", "status": "\(response.status.code)",
        "code": "\(code.rawValue)", "us": "\(microseconds)",
      ])
    return response
  }

  private func problem(for error: any Error) -> Problem {
    switch error {
    case let problem as Problem: return problem
    case let error as HTTPError:
      let code: ErrorCode = error.status == .notFound ? .notFound : .malformed
      return Problem(code, status: error.status)
    default:
      log.error("route failed", metadata: ["type": "\(type(of: error))"])
      return Problem(.internalError)
    }
  }
}
