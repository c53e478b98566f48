generation = ENV.fetch('HOLDFAST_GENERATION', '0')
run ->(_env) { [200, { 'content-type' => 'text/plain' }, ["generation=#{generation}\n"]] }
