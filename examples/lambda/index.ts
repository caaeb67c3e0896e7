/** An AWS Lambda handler as it is: an API Gateway v2 event in, a result with statusCode and body out. */
import type { HttpEvent, LambdaContext } from 'fn';

export const handler = async (event: HttpEvent, context: LambdaContext) => ({
  statusCode: 200,
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify({
    message: `${event.requestContext.http.method} ${event.rawPath}`,
    query: event.queryStringParameters ?? {},
    requestId: context.awsRequestId,
    remainingMs: context.getRemainingTimeInMillis(),
  }),
});
