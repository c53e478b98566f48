'use strict';
const fastify = require('fastify')();

fastify.get('/', async () => `generation=${process.env.HOLDFAST_GENERATION || 0}\n`);
fastify.listen({ port: %PORT, host: '127.0.0.1' });
process.on('SIGTERM', () => fastify.close());
