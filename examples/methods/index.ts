/** A function per HTTP method. Any other method is answered with 405 and an Allow header. */
const notes: string[] = [];

export function GET(): Response {
  return Response.json({ notes });
}

export async function POST(request: Request): Promise<Response> {
  const note = await request.text();
  if (note === '') return Response.json({ error: 'an empty note' }, { status: 400 });
  // Memory of one instance: it is gone when the function scales to zero.
  notes.push(note);
  return Response.json({ notes }, { status: 201 });
}
