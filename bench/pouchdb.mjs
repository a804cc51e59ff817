// PouchDB replicating documents from a PouchDB server on this machine: prints the seconds.
// Arguments: a directory for the data, documents, fields of each.
// Installed by `npm install pouchdb express@4 express-pouchdb`.

import PouchDB from 'pouchdb';
import express from 'express';
import server from 'express-pouchdb';

const [directory, documents, fields] = [process.argv[2], +process.argv[3], +process.argv[4]];
const Served = PouchDB.defaults({ prefix: `${directory}/server-` });
const app = express();
const options = { mode: 'minimumForPouchDB', inMemoryConfig: true, logPath: `${directory}/log` };
app.use('/', server(Served, options));
const text = () => Math.random().toString(16).slice(2, 18).padEnd(16, '0');

const listening = app.listen(0, '127.0.0.1', async () => {
  const source = new Served('documents');
  for (let from = 0; from < documents; from += 1000) {
    const many = [];
    for (let number = from; number < Math.min(documents, from + 1000); number++) {
      const one = { _id: String(number).padStart(8, '0') };
      for (let field = 0; field < fields; field++) one[`field${field}`] = text();
      many.push(one);
    }
    await source.bulkDocs(many);
  }
  const Local = PouchDB.defaults({ prefix: `${directory}/local-` });
  const target = new Local('documents');
  const url = `http://127.0.0.1:${listening.address().port}/documents`;
  const begin = process.hrtime.bigint();
  const done = await target.replicate.from(new PouchDB(url), { batch_size: 1000 });
  const seconds = Number(process.hrtime.bigint() - begin) / 1e9;
  if (done.docs_written !== documents) throw new Error(`${done.docs_written} documents came`);
  console.log(seconds);
  process.exit(0);
});
